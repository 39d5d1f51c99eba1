"""What a source of models is: how to build one, which there are, which code exactly it is."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bench.compute.session import missing
from bench.errors import UserError, did_you_mean
from bench.spec.preprocessing import Preprocessing

PRETRAINED = "pretrained"  # in place of a weights file: the source's usual weights of the model


@dataclass(frozen=True)
class Wanted:
    """What a model is built for. ``weights`` names some of its source's own: `PRETRAINED` or one.

    Without, the weights are drawn from torch's default generator.
    """

    num_classes: int
    image_size: int
    in_channels: int = 3
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None


def no_preprocessing(rest: str, wanted: Wanted) -> Preprocessing | None:
    """Return None: the source does not say how its models want images prepared."""
    return None


def no_input_size(rest: str) -> int | None:
    """Return None: the source does not say which size of images its models are for."""
    return None


def no_names() -> Iterable[str]:
    """Return nothing: what there is cannot be listed."""
    return ()


@dataclass(frozen=True)
class Source:
    """Where models come from. The functions take what stands behind the prefix.

    ``build`` raises UserError for what a user can mend. ``origin`` returns the fields of
    `bench.spec.model.Origin` that say which code it is: library and version, revision, file; it
    raises UserError for a name that is not there. ``preprocessing`` is how the model's own weights
    want images, and ``input_size`` of how many pixels a side, where the source says so.
    """

    build: Callable[[str, Wanted], nn.Module]
    origin: Callable[[str], dict[str, str]]
    names: Callable[[], Iterable[str]] = no_names
    preprocessing: Callable[[str, Wanted], Preprocessing | None] = no_preprocessing
    input_size: Callable[[str], int | None] = no_input_size
    trainable: bool = True
    runtime: str = "eager"


def library(package: str) -> dict[str, str]:
    """Return the fields of an Origin that name a package and its version."""
    return {"library": package, "version": importlib.metadata.version(package)}


def require(prefix: str, extra: str, *modules: str) -> None:
    """Raise UserError, naming the extra that brings it, for a module that is not installed."""
    if lacking := missing(modules):
        raise UserError(
            f"{prefix}: models need {', '.join(lacking)}: pip install 'senet-bench[{extra}]'"
        )


def unknown_name(prefix: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that a source does not know, with the nearest that it does."""
    hint = did_you_mean(name, known, f"; see senet-bench models '{prefix}:*'")
    return UserError(f"unknown model {f'{prefix}:{name}'!r}{hint}")
