"""What a model's identity says: versions, attention, depth, width, order."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence

from bench.record.environment import Environment
from bench.spec.preprocessing import Preprocessing
from bench.spec.run import ModelSpec
from senet.catalogue import facts, is_known

# What the papers call the kinds of attention.
KIND_TITLES = {
    "se": "SE",
    "eca": "ECA",
    "cbam": "CBAM",
    "ge_theta_minus": "GE-θ−",
    "ge_theta": "GE-θ",
    "ge_theta_plus": "GE-θ+",
    "simam": "SimAM",
}


def versions(env: Environment) -> dict[str, str | None]:
    """Return the versions of what computes the numbers."""
    return {name: env.packages.get(name) for name in ("torch", "torchvision")}


def has_se(model: ModelSpec) -> bool:
    """Return whether the model has SE blocks."""
    return model.se is not None or model.name.startswith("se_")


def kind(model: ModelSpec) -> str:
    """Return the kind of the model's attention, ``none`` for a model without."""
    return model.attention.kind if model.attention else "se" if has_se(model) else "none"


def kind_title(model: ModelSpec) -> str:
    """Return what the papers call the model's attention."""
    return KIND_TITLES.get(kind(model), kind(model))


def attention_title(model: ModelSpec) -> str:
    """Return the attention as a level of a factor: ``none``, ``SE``, ``SE (reduction=4)``."""
    changed = model.attention.changes() if model.attention else {}
    options = ", ".join(f"{option}={shown(value)}" for option, value in changed.items())
    return f"{kind_title(model)} ({options})" if options else kind_title(model)


def attention_and_network(model: ModelSpec) -> str:
    """Return the attention and what it stands in, in short: ``SE, resnet20``."""
    twin = plain_twin(model)
    return f"{attention_title(model)}, {twin.name}" if twin else model.name


def plain_twin(model: ModelSpec) -> ModelSpec | None:
    """Return the model that is the same but for its attention; None for one without or foreign."""
    if model.origin is not None or kind(model) == "none":
        return None
    base = facts(model.name).base if is_known(model.name) else model.name.removeprefix("se_")
    return model.model_copy(update={"name": base, "attention": None})


def width(model: ModelSpec) -> int | None:
    """Return the factor on its family's channels; None for a foreign model."""
    if model.origin is not None:
        return None
    return facts(model.name).width if is_known(model.name) else 1


def depth(model: ModelSpec) -> int | None:
    """Return the number of layers that one of our models is named after; None for foreign ones."""
    if model.origin is not None:
        return None
    if is_known(model.name):
        return facts(model.name).depth
    digits = re.search(r"(\d+)$", model.name)
    return int(digits[1]) if digits and len(digits[1]) < 6 else None


def family(model: ModelSpec) -> str:
    """Return a model's name without attention, depth and width; all of a foreign one's."""
    if model.origin is not None:
        return model.name
    if is_known(model.name):
        return facts(model.name).family
    return model.name.removeprefix("se_").rstrip("0123456789")


def attention_text(model: ModelSpec, but: Sequence[str] = ()) -> str | None:
    """Return a model's attention in short: ``r=16`` for SE, the kind for others, and its options.

    ``but`` are options that are told elsewhere. None for a model without.
    """
    if model.attention is None:
        return "yes" if has_se(model) and "reduction" not in but else None
    own = model.attention
    first = [] if own.kind == "se" else [own.kind]
    if own.kind == "se" and "reduction" not in but:
        first = [f"r={own.reduction}"]
    told = (*but, "reduction") if own.kind == "se" else but
    rest = [f"{key}={shown(value)}" for key, value in own.changes().items() if key not in told]
    return ", ".join([*first, *rest]) or None


def attention_options(model: ModelSpec) -> str | None:
    """Return what is not usual of the attention, but for what SE has facets of its own for."""
    if model.attention is None:
        return None
    told = ("reduction", "bias", "divisor") if model.se else ()
    rest = {key: value for key, value in model.attention.changes().items() if key not in told}
    return ", ".join(f"{key}={shown(value)}" for key, value in rest.items()) or None


def rounding(model: ModelSpec) -> int | None:
    """Return of what the SE block's hidden width is a multiple, where it is rounded."""
    return model.se.divisor if model.se and model.se.divisor != 1 else None


def arguments_text(model: ModelSpec) -> str | None:
    """Return the builder's arguments as they are written in brackets; None for none."""
    return ",".join(f"{key}={shown(value)}" for key, value in model.arguments) or None


def library_text(model: ModelSpec) -> str | None:
    """Return which code a foreign model is: library and version, revision, the file's hash."""
    origin = model.origin
    if origin is None:
        return None
    library = f"{origin.library} {origin.version}" if origin.library else None
    revision = f"at {origin.revision[:8]}" if origin.revision else None
    file = f"file {origin.file_sha256[:8]}" if origin.file_sha256 else None
    return ", ".join(filter(None, (library, revision, file))) or None


def preprocessing_text(model: ModelSpec, how: Preprocessing | None) -> str | None:
    """Return how images were prepared for published weights; None where the recipe says it all."""
    if how is None:
        return None
    size = f"{how.resize_size}" if how.resize_mode == "shorter" else f"{how.resize_size} squashed"
    numbers = [",".join(f"{value:g}" for value in values) for values in (how.mean, how.std)]
    return (
        f"resized to {size} ({how.interpolation}), crop {how.crop_share(model.image_size):.3g},"
        f" mean {numbers[0]}, std {numbers[1]}"
    )


def shown(value: object) -> str:
    """Return an option's value as it can be written on the command line."""
    if isinstance(value, tuple):
        return f"({','.join(map(shown, value))})"
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def model_order(model: ModelSpec) -> tuple[Hashable, ...]:
    """Return the sort key of a model: shallow before deep, plain before attention, by name."""
    rank = depth(model)
    return (
        rank is None,
        rank or 0,
        kind(model) != "none",
        model.name,
        model.stem or "",
        model.num_classes,
        model.image_size,
        model.reduction or 0,
        bool(model.se and model.se.bias),
        rounding(model) or 0,
        str(model.attention),
        repr(model.arguments),
        repr(model.origin),
    )
