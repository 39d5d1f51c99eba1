"""Runtimes outside torch: a network exported to ONNX, in ONNX Runtime or OpenVINO."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.session import Session, Unsupported, adapter, ready
from bench.machine import devices
from bench.spec.values import Precision


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
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as torch is set here
    with _quiet():
        program = torch.onnx.export(
            ready(model, device, precision), (adapt(example),), dynamo=True, verbose=False
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    if devices.kind(device) == "cpu":
        session = ort.InferenceSession(content, options, providers=[provider])
        return Session(_run_onnx(session, adapt(example), device), adapt)
    stream = torch.cuda.Stream(device)
    provider[1]["user_compute_stream"] = str(stream.cuda_stream)
    session = ort.InferenceSession(content, options, providers=[provider])
    if session.get_providers()[0] != provider[0]:  # it goes on on the CPU, without a word
        raise Unsupported(f"onnxruntime could not load its CUDA libraries for {device}")
    asynchronous = ort.RunOptions()
    asynchronous.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return Session(_run_onnx_bound(session, adapt(example), device, stream, asynchronous), adapt)


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


def _run_onnx_bound(
    session: Any, example: Tensor, device: str, stream: Any, options: Any
) -> Callable[[Tensor], Tensor]:
    """Bind inputs and outputs to the device's memory, so that nothing is copied to the host.

    The session works on ``stream``, which waits for torch's and is waited for there, on the device
    alone: else torch's events would mark the ends of nothing. ``options`` let a call return while
    the device computes, as torch's do.
    """
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
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        session.run_with_iobinding(bound, options)
        current.wait_stream(stream)
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
