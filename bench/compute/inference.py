"""Runtimes: ways to run the same model, each a function from a model to a session.

`make` is the way in.

A session is the model made ready on one device, in one precision, for one shape of input. In bf16
and fp16 weights and inputs are stored in that type, as one deploys them. A runtime that a device
or precision cannot run raises `Unsupported` with the reason; a new runtime is one function and one
line in `RUNTIMES`. int8 is made of a network by a runtime's own quantiser, see `QUANTIZERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.compute.compiler import options as inductor_options
from bench.compute.compiler import prepare_compiler
from bench.compute.exchange.artifact import save_program
from bench.compute.exchange.exported import onnxruntime, openvino
from bench.compute.int8 import inductor_pt2e, onnx_qdq, openvino_nncf
from bench.compute.int8.calibration import Calibration
from bench.compute.products import able_convolutions, compute_as_products
from bench.compute.session import (
    Runtime,
    Session,
    Unsupported,
    adapter,
    check_extra,
    ready,
    stored_bytes,
)
from bench.errors import UserError, unknown
from bench.machine import devices, graphs, numerics
from bench.spec.values import Precision


def check(names: Sequence[str], precisions: Sequence[Precision] = ()) -> None:
    """Raise UserError for a runtime that is unknown, or whose extra (or int8's) is missing."""
    for name in names:
        if name not in RUNTIMES:
            raise unknown("runtime", name, RUNTIMES)
        check_extra(f"runtime {name}", *EXTRAS.get(name, ("", ())))
    if "int8" not in precisions:
        return
    able = [name for name in names if name in QUANTIZERS]
    if not able:
        raise UserError(f"int8 is computed by --runtime {', '.join(QUANTIZERS)}; choose from these")
    for name in able:
        check_extra(f"int8 in runtime {name}", *INT8_EXTRAS[name])


def make(
    name: str,
    network: nn.Module,
    example: Tensor,
    device: str,
    precision: Precision,
    calibration: Calibration | None = None,
) -> Session:
    """Return the network made ready in a runtime, for batches like ``example`` (B, 3, H, W).

    int8 needs ``calibration``. Raises Unsupported for what the device or the precision cannot.
    """
    if precision != "int8":
        return RUNTIMES[name](network, example, device, precision)
    if problem := numerics.precision_problem(device, precision):
        raise Unsupported(problem)
    if name not in QUANTIZERS:
        raise Unsupported(f"{name} does not compute in int8; runtimes that do: {_quantizing()}")
    assert calibration is not None, "int8 needs images to calibrate on"
    return QUANTIZERS[name](network, example, calibration)


def _quantizing() -> str:
    return ", ".join(QUANTIZERS)


def eager(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator, contiguous (NCHW): what a plain PyTorch script does."""
    return _session(ready(model, device, precision), adapter(device, precision))


def _session(network: nn.Module, adapt: Callable[[Tensor], Tensor]) -> Session:
    return Session(network, adapt, weight_bytes=stored_bytes(network))


def channels_last(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run operator after operator with images and weights in channels-last (NHWC) order."""
    _refuse_channels_last(device)
    layout = torch.channels_last
    return _session(ready(model, device, precision, layout), adapter(device, precision, layout))


def _refuse_channels_last(device: str) -> None:
    if devices.kind(device) == "mps":
        raise Unsupported("mps is measured in contiguous format only; choose runtime eager")


def channels_last_matmul(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Run in channels-last order, convolutions as products of matrices where they are some."""
    _refuse_products(device)
    network = ready(model, device, precision, torch.channels_last)
    compute_as_products(able_convolutions(network))
    return _session(network, adapter(device, precision, torch.channels_last))


def _refuse_products(device: str) -> None:
    if devices.kind(device) != "cpu":
        raise Unsupported(f"products are faster on a CPU alone, not {device}: leave out _matmul")


def compiled(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run what `torch.compile` (Inductor) makes of the model, for one shape."""
    return _compiled(model, example, device, precision, freezing=False)


def compile_channels_last(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Run what Inductor makes of the model with images and weights in channels-last order."""
    _refuse_channels_last(device)
    return _compiled(model, example, device, precision, torch.channels_last, freezing=False)


def compile_channels_last_matmul(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Run what Inductor makes of the model in channels-last order with products of matrices."""
    _refuse_products(device)
    return _compiled(
        model, example, device, precision, torch.channels_last, freezing=False, products=True
    )


def compile_frozen(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Run compiled code with the weights as constants: BatchNorm folded, weights prepacked."""
    if devices.kind(device) == "mps":
        raise Unsupported("Inductor cannot freeze weights on mps; choose runtime compile")
    return _compiled(model, example, device, precision, freezing=True)


def _compiled(
    model: nn.Module,
    example: Tensor,
    device: str,
    precision: Precision,
    layout: torch.memory_format = torch.contiguous_format,
    *,
    freezing: bool,
    products: bool = False,
) -> Session:
    prepare_compiler()
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "freezing": freezing,
        **inductor_options(device),
    }
    network = ready(model, device, precision, layout)
    if products:
        compute_as_products(able_convolutions(network))
    call = torch.compile(network, dynamic=False, fullgraph=True, options=options)
    adapt = adapter(device, precision, layout)
    return Session(
        call,
        adapt,
        weight_bytes=stored_bytes(network),
        save=lambda path: save_program(network, adapt(example), path),
    )


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
    call = graphs.capture_graph(session.call, session.adapt(example))
    return replace(session, call=call)


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
INT8_EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": EXTRAS["onnxruntime"],
    "openvino": ("openvino", ("openvino", "nncf")),
    "compile": ("int8", ("torchao",)),
}
"""What the quantisers need, as in `EXTRAS`."""
RUNTIMES: dict[str, Runtime] = {
    "eager": eager,
    "channels_last": channels_last,
    "channels_last_matmul": channels_last_matmul,
    "compile": compiled,
    "compile_channels_last": compile_channels_last,
    "compile_channels_last_matmul": compile_channels_last_matmul,
    "compile_frozen": compile_frozen,
    "cudagraph": cudagraph,
    "cudagraph_channels_last": cudagraph_channels_last,
    "compile_cudagraph": compile_cudagraph,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
Quantizer = Callable[[nn.Module, Tensor, Calibration], Session]
QUANTIZERS: dict[str, Quantizer] = {
    "onnxruntime": onnx_qdq.quantized,
    "openvino": openvino_nncf.quantized,
    "compile": inductor_pt2e.quantized,
}
"""The runtimes that compute in int8."""
