"""int8 for OpenVINO: NNCF's post-training quantisation.

network ──► OpenVINO, any batch ──► NNCF: ranges, bias correction ──► batch fixed ──► session
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from torch import Tensor, nn

from bench.compute.exchange.exported import (
    EXAMPLES,
    compile_openvino,
    openvino_session,
    quiet,
    to_openvino,
)
from bench.compute.int8.calibration import Calibration
from bench.compute.session import Session
from bench.machine.numerics import has_vnni
from bench.record.deployment import QuantizationFacts

METHOD = "NNCF post-training, u8 activations by tensor, s8 weights by channel, MinMax, no bias fix"
COMPUTING = {"Convolution", "FullyConnected", "MatMul", "Gemm"}


def quantized(network: nn.Module, example: Tensor, calibration: Calibration) -> Session:
    """Quantise to int8 and run it by OpenVINO on the CPU, for batches like ``example``.

    Ranges are those of all images, as the other quantisers take them: NNCF's own default, the mean
    of each image's extremes, cuts off the half of them. So does its shift of biases, which moved
    more predictions than rounding did, stay out.
    """
    with quiet():
        import nncf

        nncf.set_log_level(logging.ERROR)
        examples = example[:1].expand(EXAMPLES, -1, -1, -1).contiguous()
        model = to_openvino(network, examples, any_batch=True)
        made = nncf.quantize(
            model,
            nncf.Dataset(list(calibration.batches(1)), lambda image: image.numpy()),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=calibration.facts.num_images,
            target_device=nncf.TargetDevice.CPU,
            advanced_parameters=_parameters(),
        )
    operators = sum(op.get_type_name() in ("Convolution", "MatMul") for op in made.get_ops())
    made.reshape(list(example.shape))
    compiled = compile_openvino(made, "fp32")
    seen = _operators(compiled)
    facts = QuantizationFacts(
        method=METHOD,
        int8_operators=sum(n for (_, precision), n in seen.items() if precision in ("u8", "i8")),
        operators=max(1, operators),
        calibration=calibration.facts,
    )
    return openvino_session(made, compiled, quantized=lambda: facts)


def _parameters() -> Any:
    """Return NNCF's settings; weights get 7 bits where 8 might overflow (see `has_vnni`)."""
    from nncf import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        overflow_fix=OverflowFix.DISABLE if has_vnni() else OverflowFix.ENABLE,
        disable_bias_correction=True,
    )


def _operators(compiled: Any) -> Counter[tuple[str, str]]:
    """Count the convolutions and linear layers that are run, by kind and precision."""
    found: Counter[tuple[str, str]] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        facts = operator.get_rt_info()
        kind, precision = (_text(facts[name]) for name in ("layerType", "runtimePrecision"))
        if kind in COMPUTING:
            found[kind, precision] += 1
    return found


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))
