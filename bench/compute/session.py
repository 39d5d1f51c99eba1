"""A session: a network made ready once in a runtime and a precision, then called."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.machine.numerics import DTYPE
from bench.record.deployment import QuantizationFacts
from bench.spec.values import Precision


class Unsupported(Exception):
    """Say why a device or precision cannot run a runtime."""


@dataclass(frozen=True)
class Session:
    """A model ready to run: ``call`` takes what ``adapt`` made of inputs (B, 3, H, W).

    ``adapt`` moves inputs to the device, into the precision and the memory format, and is not
    timed; ``call`` returns logits (B, num_classes), which the next call may overwrite.
    ``weight_bytes`` is what the weights take on disk. ``quantized`` tells, after the first call,
    how much of it computes in int8; ``save`` writes the artefact that is run.
    """

    call: Callable[[Tensor], Tensor]
    adapt: Callable[[Tensor], Tensor]
    weight_bytes: int | None = None
    quantized: Callable[[], QuantizationFacts] | None = None
    save: Callable[[Path], None] | None = None


Runtime = Callable[[nn.Module, Tensor, str, Precision], Session]


def ready(
    model: nn.Module,
    device: str,
    precision: Precision,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Return a copy of the model in eval mode on the device, its weights in the precision.

    Raises `Unsupported` for a graph in a file, which no runtime of torch runs.
    """
    if not getattr(model, "runs_in_torch", True):
        raise Unsupported("a model in an ONNX file runs in onnxruntime or openvino")
    placed = copy.deepcopy(model).eval().requires_grad_(False)
    # torch's annotations of Module.to do not know memory_format
    return placed.to(device=device, dtype=DTYPE[precision], memory_format=memory_format)  # type: ignore[call-overload, no-any-return]


def adapter(
    device: str,
    precision: Precision,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[Tensor], Tensor]:
    """Return the function that puts inputs on the device, in the precision and the format."""

    def adapt(images: Tensor) -> Tensor:
        return images.to(device=device, dtype=DTYPE[precision]).contiguous(
            memory_format=memory_format
        )

    return adapt


def stored_bytes(network: nn.Module) -> int:
    """Return what a network's parameters and statistics take, each in its own type."""
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def missing(modules: Sequence[str]) -> list[str]:
    """Return which of some modules are not installed; none of them is imported."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


def check_extra(what: str, extra: str, modules: Sequence[str]) -> None:
    """Raise UserError, which says how to install it, for an extra whose modules are missing."""
    if lacking := missing(modules):
        raise UserError(f"{what} needs {', '.join(lacking)}: pip install 'senet-bench[{extra}]'")
