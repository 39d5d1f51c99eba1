"""Runtimes outside torch: a network exported to ONNX, in ONNX Runtime or OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.exchange.onnx_model import OnnxModel
from bench.compute.session import Session, Unsupported, adapter, ready
from bench.machine import devices
from bench.record.deployment import QuantizationFacts
from bench.record.files import write_whole
from bench.spec.values import Precision


def onnxruntime(model: nn.Module, example: Tensor, device: str, precision: Precision) -> Session:
    """Export to ONNX and run it by ONNX Runtime, which folds BatchNorm into convolutions."""
    if precision not in ONNX_PRECISIONS.get(devices.kind(device), ()):
        able = "; ".join(f"{kind} in {', '.join(p)}" for kind, p in ONNX_PRECISIONS.items())
        raise Unsupported(f"onnxruntime runs on {able}; not on {device} in {precision}")
    import onnxruntime as ort

    if _onnx_provider(device, precision)[0] not in ort.get_available_providers():
        raise Unsupported("this onnxruntime has no CUDA: pip install onnxruntime-gpu")
    if isinstance(model, OnnxModel):  # as it is in the file
        return onnx_session(model.content, example, device, precision)
    with quiet():
        content = to_onnx(ready(model, device, precision), adapter(device, precision)(example))
    return onnx_session(content.SerializeToString(), example, device, precision)


EXAMPLES = 2  # of one image alone the exporter would conclude that the batch is always one


def to_onnx(model: nn.Module, example: Tensor, *, any_batch: bool = False) -> Any:
    """Return the model as ONNX, for batches like ``example`` (B, 3, H, W) or of any size."""
    shapes = ({0: torch.export.Dim("batch", min=1)},) if any_batch else None
    program = torch.onnx.export(
        model, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes
    )
    assert program is not None
    return program.model_proto


def onnx_session(
    content: bytes,
    example: Tensor,
    device: str,
    precision: Precision,
    *,
    quantized: Callable[[], QuantizationFacts] | None = None,
) -> Session:
    """Run a serialised ONNX model on batches like ``example``, on the threads that torch has."""
    import onnxruntime as ort

    adapt = adapter(device, precision)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as torch is set here
    provider = _onnx_provider(device, precision)
    made: dict[str, Any] = {
        "weight_bytes": len(content),
        "quantized": quantized,
        "save": lambda path: write_whole(path, content),
    }
    if devices.kind(device) == "cpu":
        session = ort.InferenceSession(content, options, providers=[provider])
        return Session(_run_onnx(session, adapt(example), device), adapt, **made)
    stream = torch.cuda.Stream(device)
    provider[1]["user_compute_stream"] = str(stream.cuda_stream)
    session = ort.InferenceSession(content, options, providers=[provider])
    if session.get_providers()[0] != provider[0]:  # it goes on on the CPU, without a word
        raise Unsupported(f"onnxruntime could not load its CUDA libraries for {device}")
    asynchronous = ort.RunOptions()
    asynchronous.add_run_config_entry("disable_synchronize_execution_providers", "1")
    call = _run_onnx_bound(session, adapt(example), device, stream, asynchronous)
    return Session(call, adapt, **made)


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

    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}[precision] not in able:
        raise Unsupported(f"openvino has no {precision} kernels for this processor")
    with quiet():
        if isinstance(model, OnnxModel):
            converted = ov.Core().read_model(io.BytesIO(model.content))
            converted.reshape(list(example.shape))
        else:
            converted = to_openvino(ready(model, "cpu", "fp32"), example.cpu())
    return openvino_session(converted, compile_openvino(converted, precision))


def to_openvino(model: nn.Module, example: Tensor, *, any_batch: bool = False) -> Any:
    """Return the model as OpenVINO's, for batches like ``example`` (B, 3, H, W) or of any size."""
    import openvino as ov

    shapes = ({0: torch.export.Dim("batch", min=1)},) if any_batch else None
    converted = ov.convert_model(torch.export.export(model, (example,), dynamic_shapes=shapes))
    if not any_batch:  # or it would be compiled for any shape, whatever was exported
        converted.reshape(list(example.shape))
    return converted


def compile_openvino(model: Any, precision: Precision) -> Any:
    """Compile a model of OpenVINO for the CPU; what is not int8 in it computes in ``precision``."""
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    return ov.Core().compile_model(model, "CPU", settings)


def openvino_session(
    model: Any,
    compiled: Any,
    *,
    quantized: Callable[[], QuantizationFacts] | None = None,
) -> Session:
    """Run a compiled model of OpenVINO; weights take what the model's constants hold."""
    request = compiled.create_infer_request()

    def call(images: Tensor) -> Tensor:
        found = request.infer([images.numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0])

    constants = (op for op in model.get_ops() if op.get_type_name() == "Constant")
    return Session(
        call,
        adapter("cpu", "fp32"),
        weight_bytes=sum(constant.get_byte_size() for constant in constants),
        quantized=quantized,
        save=lambda path: _save_openvino(model, path),
    )


def _save_openvino(model: Any, path: Path) -> None:
    """Write the model as it is run, in .xml and .bin, weights not shortened to fp16."""
    import openvino as ov

    ov.save_model(model, path, compress_to_fp16=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print and warn of off the screen; stdout may be somebody's JSON."""
    silence, former = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(silence):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)
