"""Runtimes: ways to run the same model, each a function from a model to a session.

A session is the model made ready on one device, in one precision, for one shape of input. In bf16
and fp16 weights and inputs are stored in that type, as one deploys them. A runtime that a device
or precision cannot run raises `Unsupported` with the reason; a new runtime is one function and one
line in `RUNTIMES`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    options: dict[str, str | int | bool | Callable[..., object]] = {"freezing": freezing}
    call = torch.compile(
        ready(model, device, precision, layout), dynamic=False, fullgraph=True, options=options
    )
    return Session(call, adapter(device, precision, layout))


def from_cache() -> Callable[[], bool | None]:
    """Begin to watch; the returned function tells if all code compiled since came from a cache.

    Inductor keeps on disk what it made for earlier processes; None when nothing was compiled, or
    when this version of torch does not say.
    """
    before = _cache_counts()

    def end() -> bool | None:
        hits, misses = (after - b for after, b in zip(_cache_counts(), before, strict=True))
        return misses == 0 if hits + misses else None

    return end


def _cache_counts() -> tuple[int, int]:
    """Return how often Inductor found code in its cache, and how often not, in this process."""
    utils = sys.modules.get("torch._dynamo.utils")  # there once something was compiled
    counts = getattr(utils, "counters", {})
    hits, misses = (
        counts.get("inductor", {}).get(f"fxgraph_cache_{what}", 0)
        + counts.get("aot_autograd", {}).get(f"autograd_cache_{what}", 0)
        for what in ("hit", "miss")
    )
    return hits, misses


def prepare_compiler() -> None:
    """Let a sitting compile many models and shapes, each for its own shape.

    Dynamo counts compilations by the Python code of ``forward``, which all models here share; past
    its limit it would run eager without a word. A second shape would get code for any shape.
    """
    import torch._dynamo.config as config

    config.automatic_dynamic_shapes = False
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 10_000)
    total = f"accumulated_{limit}"
    if hasattr(config, total):
        setattr(config, total, 10_000)
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True


def forget_compiled() -> None:
    """Free what was compiled so far; sessions made before must not be called again."""
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()


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
    return Session(devices.capture_graph(session.call, session.adapt(example)), session.adapt)


def compile_cudagraph(
    model: nn.Module, example: Tensor, device: str, precision: Precision
) -> Session:
    """Replay Inductor's frozen code from one recorded CUDA graph."""
    return _captured(compile_frozen, model, example, device, precision)


def onnxruntime(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Export to ONNX and run it by ONNX Runtime, which folds BatchNorm into convolutions."""
    if precision not in ONNX_PRECISIONS.get(devices.kind(device), ()):
        able = "; ".join(f"{kind} in {', '.join(p)}" for kind, p in ONNX_PRECISIONS.items())
        raise Unsupported(f"onnxruntime runs on {able}; not on {device} in {precision}")
    import onnxruntime as ort

    provider = _onnx_provider(device, precision)
    if provider[0] not in ort.get_available_providers():
        raise Unsupported("this onnxruntime has no CUDA: pip install onnxruntime-gpu")
    adapt = adapter(device, precision)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    with _quiet():
        program = torch.onnx.export(
            ready(model, device, precision), (adapt(example),), dynamo=True, verbose=False
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = ort.InferenceSession(content, options, providers=[provider])
    call = _run_onnx if devices.kind(device) == "cpu" else _run_onnx_bound
    return Session(call(session, adapt(example), device), adapt)


ONNX_PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("fp32",),
    "cuda": ("fp32", "tf32", "fp16"),
}


def _onnx_provider(device: str, precision: Precision) -> tuple[str, dict[str, str]]:
    if devices.kind(device) == "cpu":
        return "CPUExecutionProvider", {}
    index = str(torch.device(device).index or 0)
    return "CUDAExecutionProvider", {"device_id": index, "use_tf32": str(int(precision == "tf32"))}


def _run_onnx(session: Any, example: Tensor, device: str) -> Callable[[Tensor], Tensor]:
    (given,), names = session.get_inputs(), [output.name for output in session.get_outputs()]

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(names, {given.name: images.numpy()})[0])

    return call


def _run_onnx_bound(session: Any, example: Tensor, device: str) -> Callable[[Tensor], Tensor]:
    """Bind inputs and outputs to the device's memory, so that nothing is copied to the host."""
    import numpy as np

    given, output = session.get_inputs()[0], session.get_outputs()[0]
    index = torch.device(device).index or 0
    dtype = np.float16 if example.dtype == torch.float16 else np.float32
    logits = torch.empty(len(example), output.shape[1], dtype=example.dtype, device=device)
    bound = session.io_binding()
    bound.bind_output(output.name, "cuda", index, dtype, tuple(logits.shape), logits.data_ptr())

    def call(images: Tensor) -> Tensor:
        shape = tuple(images.shape)
        bound.bind_input(given.name, "cuda", index, dtype, shape, images.data_ptr())
        session.run_with_iobinding(bound)
        return logits

    return call


def openvino(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Export to OpenVINO and run it on the CPU, all cores working on one batch."""
    if devices.kind(device) != "cpu":
        raise Unsupported(f"openvino runs here on the CPU only, not on {device}")
    import openvino as ov

    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    core = ov.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}[precision] not in able:
        raise Unsupported(f"openvino has no {precision} kernels for this processor")
    with _quiet():
        exported = torch.export.export(ready(model, "cpu", "fp32"), (example.cpu(),))
        converted = ov.convert_model(exported)
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(converted, "CPU", settings).create_infer_request()

    def call(images: Tensor) -> Tensor:
        found = request.infer([images.numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0])

    return Session(call, adapter("cpu", "fp32"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print and warn of off the screen; stdout may be somebody's JSON."""
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence):
        warnings.simplefilter("ignore")
        yield


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
