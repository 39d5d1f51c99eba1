"""Runtimes: ways to run the same model, each a function from a model to a session.

A session is the model made ready on one device, in one precision, for one shape of input. In bf16
and fp16 weights and inputs are stored in that type, as one deploys them. A runtime that a device
or precision cannot run raises `Unsupported` with the reason; a new runtime is one function and one
line in `RUNTIMES`.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench import device as devices
from bench.errors import UserError, unknown
from bench.spec import Precision

DTYPE = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Unsupported(Exception):
    """Say why a device or precision cannot run a runtime."""


@dataclass(frozen=True)
class Session:
    """A model ready to run: ``call`` takes what ``adapt`` made of inputs (B, 3, H, W).

    ``adapt`` moves inputs to the device, into the precision and the memory format, and is not
    timed; ``call`` returns logits (B, num_classes).
    """

    call: Callable[[Tensor], Tensor]
    adapt: Callable[[Tensor], Tensor]


Runtime = Callable[[nn.Module, Tensor, str, Precision], Session]


def check(names: tuple[str, ...]) -> None:
    """Raise UserError for a runtime that is unknown or whose extra is not installed."""
    for name in names:
        if name not in RUNTIMES:
            raise unknown("runtime", name, RUNTIMES)
        extra, modules = EXTRAS.get(name, ("", ()))
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            raise UserError(
                f"runtime {name} needs {', '.join(missing)}: pip install 'senet-bench[{extra}]'"
            )


def ready(
    model: nn.Module,
    device: str,
    precision: Precision,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Return a copy of the model in eval mode on the device, its weights in the precision."""
    placed = copy.deepcopy(model).eval().requires_grad_(False)
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


def eager(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator, contiguous (NCHW): what a plain PyTorch script does."""
    return Session(ready(model, device, precision), adapter(device, precision))


def channels_last(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator with images and weights in channels-last (NHWC) order."""
    if devices.kind(device) == "mps":
        raise Unsupported("mps is measured in contiguous format only; choose runtime eager")
    layout = torch.channels_last
    return Session(ready(model, device, precision, layout), adapter(device, precision, layout))


def compiled(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run what `torch.compile` (Inductor) makes of the model, for one shape."""
    return _compiled(model, device, precision, freezing=False)


def compile_frozen(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run compiled code with the weights as constants: BatchNorm folded, weights prepacked."""
    if devices.kind(device) == "mps":
        raise Unsupported("Inductor cannot freeze weights on mps; choose runtime compile")
    return _compiled(model, device, precision, freezing=True)


def _compiled(model: nn.Module, device: str, precision: Precision, *, freezing: bool) -> Session:
    _allow_many_compilations()
    options: dict[str, str | int | bool | Callable[..., object]] = {"freezing": freezing}
    call = torch.compile(
        ready(model, device, precision), dynamic=False, fullgraph=True, options=options
    )
    return Session(call, adapter(device, precision))


def _allow_many_compilations() -> None:
    """Let a sitting compile many models and shapes, and fail where code would fall to eager.

    Dynamo counts compilations by the Python code of ``forward``, which all models here share.
    """
    import torch._dynamo.config as config

    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 10_000)
    total = f"accumulated_{limit}"
    if hasattr(config, total):
        setattr(config, total, 10_000)
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True


def cudagraph(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Replay the eager operators from one recorded CUDA graph, launched as a whole.

    Each call copies its input to where the graph reads it, as a server must.
    """
    if devices.kind(device) != "cuda":
        raise Unsupported(f"CUDA graphs need a CUDA GPU, not {device}")
    network, adapt = ready(model, device, precision), adapter(device, precision)
    return Session(devices.capture_graph(network, adapt(example)), adapt)


EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {}
"""The runtimes that need more than torch: the extra that brings it, the modules looked for."""

RUNTIMES: dict[str, Runtime] = {
    "eager": eager,
    "channels_last": channels_last,
    "compile": compiled,
    "compile_frozen": compile_frozen,
    "cudagraph": cudagraph,
}
