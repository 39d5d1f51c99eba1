"""Runtimes: ways to run the same model, each a function from a model to a session.

A session is the model made ready on one device, in one precision, for one shape of input. In bf16
and fp16 weights and inputs are stored in that type, as one deploys them. A runtime that a device
or precision cannot run raises `Unsupported` with the reason; a new runtime is one function and one
line in `RUNTIMES`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.compute.compiler import options as inductor_options
from bench.compute.compiler import prepare_compiler
from bench.compute.exported import onnxruntime, openvino
from bench.compute.session import Runtime, Session, Unsupported, adapter, ready
from bench.errors import UserError, unknown
from bench.machine import devices, graphs
from bench.spec.values import Precision


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


def eager(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator, contiguous (NCHW): what a plain PyTorch script does."""
    return Session(ready(model, device, precision), adapter(device, precision))


def channels_last(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator with images and weights in channels-last (NHWC) order."""
    _refuse_channels_last(device)
    layout = torch.channels_last
    return Session(ready(model, device, precision, layout), adapter(device, precision, layout))


def _refuse_channels_last(device: str) -> None:
    if devices.kind(device) == "mps":
        raise Unsupported("mps is measured in contiguous format only; choose runtime eager")


def compiled(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run what `torch.compile` (Inductor) makes of the model, for one shape."""
    return _compiled(model, device, precision, freezing=False)


def compile_channels_last(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Run what Inductor makes of the model with images and weights in channels-last order."""
    _refuse_channels_last(device)
    return _compiled(model, device, precision, torch.channels_last, freezing=False)


def compile_frozen(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run compiled code with the weights as constants: BatchNorm folded, weights prepacked."""
    if devices.kind(device) == "mps":
        raise Unsupported("Inductor cannot freeze weights on mps; choose runtime compile")
    return _compiled(model, device, precision, freezing=True)


def _compiled(
    model: nn.Module,
    device: str,
    precision: Precision,
    layout: torch.memory_format = torch.contiguous_format,
    *,
    freezing: bool,
) -> Session:
    prepare_compiler()
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "freezing": freezing,
        **inductor_options(device),
    }
    call = torch.compile(
        ready(model, device, precision, layout), dynamic=False, fullgraph=True, options=options
    )
    return Session(call, adapter(device, precision, layout))


def cudagraph(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Replay the eager operators from one recorded CUDA graph, launched as a whole.

    Each call copies its input to where the graph reads it, as a server must.
    """
    return _captured(eager, model, example, device, precision)


def cudagraph_channels_last(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Replay the eager operators in channels-last order from one recorded CUDA graph."""
    return _captured(channels_last, model, example, device, precision)


def _captured(
    runtime: Runtime, model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    if devices.kind(device) != "cuda":
        raise Unsupported(f"CUDA graphs need a CUDA GPU, not {device}")
    session = runtime(model, example, device, precision)
    return Session(graphs.capture_graph(session.call, session.adapt(example)), session.adapt)


def compile_cudagraph(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Replay Inductor's frozen code from one recorded CUDA graph."""
    return _captured(compile_frozen, model, example, device, precision)


EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": ("onnx", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("openvino", ("openvino",)),
}
"""The runtimes that need more than torch: the extra that brings it, the modules looked for."""
RUNTIMES: dict[str, Runtime] = {
    "eager": eager,
    "channels_last": channels_last,
    "compile": compiled,
    "compile_channels_last": compile_channels_last,
    "compile_frozen": compile_frozen,
    "cudagraph": cudagraph,
    "cudagraph_channels_last": cudagraph_channels_last,
    "compile_cudagraph": compile_cudagraph,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
