"""int8 for ONNX Runtime: static quantisation, QDQ format, weights by channel.

network ──► ONNX, any batch ──► calibrated, quantised ──► batch fixed ──► session
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.exchange.exported import EXAMPLES, onnx_session, quiet, to_onnx
from bench.compute.int8.calibration import Calibration
from bench.compute.session import Session
from bench.machine.numerics import has_vnni
from bench.record.deployment import QuantizationFacts

METHOD = "onnxruntime static QDQ, u8 activations by tensor, s8 weights by channel, MinMax"
CALIBRATION_BATCH = 16  # MinMax takes the extremes of all images: batches change nothing
INT8 = {"QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}


def quantized(network: nn.Module, example: Tensor, calibration: Calibration) -> Session:
    """Quantise to int8 and run it by ONNX Runtime on the CPU, for batches like ``example``."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        content = _quantize(network, example, calibration, Path(folder))
        seen = _operators(content, Path(folder))
    facts = QuantizationFacts(
        method=METHOD,
        int8_operators=sum(seen[name] for name in INT8),
        operators=max(1, sum(seen[name] for name in INT8 | FLOAT)),
        calibration=calibration.facts,
    )
    return onnx_session(content, example, "cpu", "int8", quantized=lambda: facts)


def _quantize(network: nn.Module, example: Tensor, calibration: Calibration, folder: Path) -> bytes:
    """Return the quantised model: Q and DQ around every operator that the runtime has in int8.

    Without VNNI two products of 8 bits may overflow the 16 that hold their sum, so that weights
    get 7 bits there, as the library advises.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = to_onnx(network, example[:1].expand(EXAMPLES, -1, -1, -1), any_batch=True)
    onnx.save(model, folder / "float.onnx")
    quant_pre_process(folder / "float.onnx", folder / "ready.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "ready.onnx",
        folder / "int8.onnx",
        _reader(model.graph.input[0].name, calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    made = onnx.load(folder / "int8.onnx")
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = len(example)
    del made.graph.value_info[:]  # shapes of any batch
    return bytes(made.SerializeToString())


def _reader(name: str, calibration: Calibration) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = calibration.batches(CALIBRATION_BATCH)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {name: images.numpy()}

    return Reader()


def _operators(content: bytes, folder: Path) -> Counter[str]:
    """Count the operators of the graph that the runtime makes of a model for this processor."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimized.onnx", load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)
