"""Which model exactly: a name with its options, checked against what the network can have.

Nothing here needs torch, so that reports and experiments can check and compare architectures
without it; `senet.zoo` builds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from senet.attention import NONE, Attention, as_attention, boolean
from senet.catalogue import BOTH, NETWORKS, Facts, facts, name_of
from senet.errors import ModelError, positive_int, unknown

# At what size images are looked at with a stem, where nothing else is said.
IMAGE_SIZES = {"cifar": 32, "imagenet": 224}
# How the first options of the SE block are called where they stand alone, and in an `Attention`.
_SE_OPTIONS = {"reduction": "reduction", "se_bias": "bias", "se_divisor": "divisor"}


@dataclass(frozen=True)
class Architecture:
    """What tells one model of the zoo from another, apart from its weights.

    ``attention`` is ``None`` for models without. ``shortcut`` and ``dropout`` are ``None`` where
    there is no choice, ``image_size`` where the weights fit images of any size.
    """

    name: str
    stem: str
    num_classes: int
    attention: Attention | None = None
    shortcut: str | None = None
    dropout: float | None = None
    image_size: int | None = None
    # The SE block's options, for callers that take them one by one.
    reduction: int | None = field(init=False, compare=False, repr=False)
    se_bias: bool | None = field(init=False, compare=False, repr=False)
    se_divisor: int | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        se = self.attention if self.attention and self.attention.kind == "se" else NONE
        object.__setattr__(self, "reduction", se.reduction)
        object.__setattr__(self, "se_bias", se.bias)
        object.__setattr__(self, "se_divisor", se.divisor)

    def __str__(self) -> str:
        parts = [f"{self.stem} stem", f"{self.num_classes} classes"]
        if self.attention:
            parts += _in_words(self.attention)
        for option in ("shortcut", "dropout", "image_size"):
            value = getattr(self, option)
            parts += [] if value is None else [f"{option.replace('_', ' ')} {value}"]
        return f"{self.name} ({', '.join(parts)})"

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, in the form that files have had since there was only SE."""
        facts: dict[str, Any] = {
            key: getattr(self, key)
            for key in ("name", "stem", "num_classes", "reduction", "se_bias", "se_divisor")
        }
        for option in ("shortcut", "dropout", "image_size"):
            if getattr(self, option) is not None:
                facts[option] = getattr(self, option)
        if self.attention and self.attention != _plain_se(self):
            facts["attention"] = self.attention.to_dict()
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Architecture:
        """Return the architecture that `to_dict` described; ModelError for anything else."""
        known = {entry.name for entry in dataclasses.fields(cls)}
        if not {"name", "stem", "num_classes"} <= set(facts) <= known:
            raise ModelError(f"{sorted(facts)} are not the facts of an architecture")
        rest = {
            key: value for key, value in facts.items() if key not in (*_SE_OPTIONS, "attention")
        }
        if "attention" in facts:
            return cls(**rest, attention=Attention.from_dict(facts["attention"]))
        if facts.get("reduction") is None:
            return cls(**rest)
        se = {own: facts.get(option) for option, own in _SE_OPTIONS.items()}
        return cls(**rest, attention=Attention("se", **se))


def _plain_se(arch: Architecture) -> Attention | None:
    if arch.reduction is None:
        return None
    return Attention("se", arch.reduction, arch.se_bias, arch.se_divisor)


def _in_words(attention: Attention) -> list[str]:
    if attention.kind != "se":
        return [f"{option} {value}" for option, value in attention.changes().items()]
    words = [
        f"reduction {attention.reduction}",
        f"SE {'with' if attention.bias else 'without'} bias",
    ]
    if attention.divisor != 1:
        words.append(f"hidden width in {attention.divisor}s")
    shown = ("reduction", "bias", "divisor")
    return words + [f"{o} {value}" for o, value in attention.changes().items() if o not in shown]


def resolve(
    name: str,
    stem: str | None = None,
    num_classes: int = 10,
    attention: Attention | str | None = None,
    *,
    shortcut: str | None = None,
    dropout: float | None = None,
    image_size: int | None = None,
    **se_options: Any,
) -> Architecture:
    """Return the architecture of a network of the catalogue, its defaults filled in.

    ``se_options`` are ``reduction``, ``se_bias`` and ``se_divisor``, for an attention that is not
    given as a whole. ModelError for an option that is out of range or not the network's.
    """
    known = facts(name)
    chosen = _attention(known, attention, se_options)
    _check_place(known, chosen)
    stem = _stem(known, stem)
    return Architecture(
        name_of(known.base, chosen.kind),
        stem,
        positive_int("num_classes", num_classes),
        chosen or None,
        _shortcut(known, shortcut),
        _dropout(known, dropout),
        _image_size(chosen, stem, image_size),
    )


def _attention(
    known: Facts, given: Attention | str | None, se_options: Mapping[str, Any]
) -> Attention:
    """Return the attention that name and options agree on; ModelError where they do not."""
    wanted = as_attention(known.attention if given is None else given)
    if known.attention not in ("none", wanted.kind):
        raise ModelError(
            f"{known.name} has attention {known.attention}, not {wanted.kind}; "
            f"{name_of(known.base, wanted.kind)} has that"
        )
    options = {option: value for option, value in se_options.items() if value is not None}
    if not options:
        return wanted
    first = next(iter(options))
    if not wanted:
        raise _no_se(known.name, first)
    if isinstance(given, Attention):
        raise ModelError(f"{first} is given beside an attention, which has its own")
    for option, value in options.items():
        boolean(option, value) if option == "se_bias" else positive_int(option, value)
    return Attention(wanted.kind, **{_SE_OPTIONS[o]: value for o, value in options.items()})


def _no_se(name: str, option: str) -> ModelError:
    """Return the error for an option of the SE block given for a model that has none."""
    having = ", ".join(name_of(base, "se") for base in NETWORKS)
    return ModelError(
        f"{name} has no SE block, so {option} does not apply; models that have one: {having}"
    )


def _check_place(known: Facts, attention: Attention) -> None:
    """Raise ModelError where the attention would stand in a place that the network has not."""
    if attention.position == "conv3x3" and known.network.block != "bottleneck":
        having = ", ".join(n for n, network in NETWORKS.items() if network.block == "bottleneck")
        raise ModelError(
            f"position conv3x3 does not apply to {known.name}, whose blocks are no bottlenecks; "
            f"it applies to: {having}"
        )
    last = len(known.network.blocks)
    for stage in attention.stages or ():
        if stage > last:
            raise ModelError(f"{known.name} has the stages 1 to {last}, and no stage {stage}")


def _stem(known: Facts, stem: str | None) -> str:
    stems = known.network.stems
    if stem is None:
        return stems[0]
    if stem not in BOTH:
        raise unknown("stem", stem, sorted(BOTH))
    if stem not in stems:
        raise ModelError(
            f"{known.name} is made for small images: its stem is a 3×3 of 16 channels, "
            f"and it has no {stem} stem; build it with --stem {stems[0]}"
        )
    return stem


def _shortcut(known: Facts, shortcut: str | None) -> str | None:
    choices = known.network.shortcuts
    if shortcut is not None and shortcut not in ("A", "B"):
        raise unknown("shortcut", shortcut, ("A", "B"))
    if shortcut is not None and shortcut not in choices:
        having = ", ".join(n for n, network in NETWORKS.items() if shortcut in network.shortcuts)
        raise ModelError(f"{known.name} has no shortcut {shortcut}; models that can: {having}")
    return None if len(choices) == 1 else shortcut or choices[0]


def _dropout(known: Facts, dropout: float | None) -> float | None:
    if dropout is None:
        return None
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(f"dropout must be a number from 0 to below 1, not {dropout!r}")
    if dropout and not known.network.has_dropout:
        having = ", ".join(n for n, network in NETWORKS.items() if network.has_dropout)
        raise ModelError(f"{known.name} has no dropout; models that have: {having}")
    return float(dropout) or None


def _image_size(attention: Attention, stem: str, image_size: int | None) -> int | None:
    """Return the size that the weights are for; None where they fit images of any size."""
    if image_size is not None:
        positive_int("image_size", image_size)
    if attention.kind not in ("ge_theta", "ge_theta_plus") or attention.extent != 0:
        return None
    return IMAGE_SIZES[stem] if image_size is None else image_size
