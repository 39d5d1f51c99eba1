"""Count what a model costs without a clock: params, macs, flops, operators, activations, bytes.

A count is believed because counters that share no code agree on it to the last integer: this
project's, torch's and fvcore's (whose "flops" are multiply-accumulates). Where one of them does not
know an operator, or cannot follow the model, the record says so and two are left.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn

from bench.compute.exchange.onnx_model import OnnxModel
from bench.errors import UserError
from bench.measure.count.agreement import check_agreement
from bench.measure.count.onnx_cost import count_onnx
from bench.measure.count.operators import (
    Operator,
    blank_copy,
    blank_image,
    kind_of,
    trace,
)
from bench.measure.count.place import is_in_se, se_blocks, stage_of
from bench.record.cost import CostFacts, CostPart
from senet.weight_files import unwrap

# What fvcore calls the operators that `macs` is made of; the others it adds are not.
FVCORE_MAC_OPERATORS = frozenset({"conv", "linear", "addmm", "matmul", "bmm", "einsum"})
# Products that fvcore knows nothing of, by the names of its tracer.
_UNKNOWN_TO_FVCORE = ("attention", "baddbmm", "multi_head", "bilinear", "transformer")


def count(model: nn.Module, image_size: int, channels: int = 3) -> CostFacts:
    """Return the cost of one image (channels, image_size, image_size) in inference.

    The model is not run and not changed: a copy without its weights, in eval mode, is. UserError
    when nothing can be counted; `CountersDisagreeError` when the counters differ.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise UserError(f"image size must be an integer of at least 1, not {image_size!r}")
    model = unwrap(model)
    if isinstance(model, OnnxModel):
        return count_onnx(model, image_size, channels)
    seen = trace(model, image_size, channels)
    macs = sum(operator.macs for operator in seen.operators)
    what = type(model).__name__
    if macs == 0:
        raise UserError(f"{what} has no convolution and no linear layer to count")
    counts = {"this project": macs, "torch.utils.flop_counter": seen.torch_flops / 2}
    by_fvcore, missing = _by_fvcore(model, image_size, channels)
    if missing is None:
        counts["fvcore"] = by_fvcore
    check_agreement(counts, f"{what} at {image_size}×{image_size}")
    return _facts(model, seen.operators).model_copy(
        update={"counters": tuple(counts), "left_out": {"fvcore": missing} if missing else {}}
    )


def _by_fvcore(model: nn.Module, image_size: int, channels: int) -> tuple[int, str | None]:
    """Return fvcore's multiply-accumulates, and why they are not all: None where they are."""
    try:
        found, unknown = _analysed(model, image_size, channels)
    except Exception as error:  # it traces Python, which not every model lets be traced
        return 0, f"it cannot follow the model ({type(error).__name__})"
    macs = sum(n for name, n in found.items() if name in FVCORE_MAC_OPERATORS)
    missed = [name for name in unknown if any(word in name for word in _UNKNOWN_TO_FVCORE)]
    names = ", ".join(sorted(name.removeprefix("aten::") for name in missed))
    return macs, f"it does not know {names}; without, it counts {macs:,} MACs" if missed else None


def traced_macs(model: nn.Module, image_size: int, channels: int = 3) -> int:
    """Return `count`'s macs without asking the other counters, for lists of models."""
    model = unwrap(model)
    if isinstance(model, OnnxModel):
        return count_onnx(model, image_size, channels).macs
    operators = trace(model, image_size, channels).operators
    return sum(operator.macs for operator in operators)


def fvcore_counts(model: nn.Module, image_size: int, channels: int = 3) -> dict[str, int]:
    """Return fvcore's count of one image, operator by operator, as fvcore means it."""
    return _analysed(model, image_size, channels)[0]


def _analysed(
    model: nn.Module, image_size: int, channels: int
) -> tuple[dict[str, int], Iterable[str]]:
    """Return fvcore's counts by operator, and the operators that it does not know.

    fvcore traces real arithmetic, here on a copy of zeros on the CPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore relies on torch.jit, deprecated since torch 2.13
        from fvcore.nn import FlopCountAnalysis

        image = blank_image(image_size, "cpu", channels)
        analysis = FlopCountAnalysis(blank_copy(model, "cpu"), image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        with torch.no_grad():
            found = analysis.by_operator()
            unknown = list(analysis.unsupported_ops())
    return {name: int(n) for name, n in found.items()}, unknown


def _facts(model: nn.Module, operators: Iterable[Operator]) -> CostFacts:
    parts = _parts(model, operators)
    macs = sum(part.macs for part in parts)
    return CostFacts(
        params=sum(part.params for part in parts),
        macs=macs,
        flops=2 * macs,
        uncounted=dict(sorted(Counter(o.name for o in operators if not o.macs).items())),
        operators=sum(part.operators for part in parts),
        activations=sum(part.activations for part in parts),
        param_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        weight_bytes=sum(part.weight_bytes for part in parts),
        activation_bytes=sum(part.activation_bytes for part in parts),
        parts=parts,
    )


def _parts(model: nn.Module, operators: Iterable[Operator]) -> tuple[CostPart, ...]:
    """Return the cost by stage and kind, in the order of the first launch."""
    groups: dict[tuple[str, str], list[Operator]] = {}
    for operator in operators:
        groups.setdefault((operator.stage, operator.kind), []).append(operator)
    params = params_by_part(model)
    places = dict.fromkeys(chain(groups, params))
    return tuple(
        CostPart(
            stage=stage,
            kind=kind,
            operators=len(group),
            params=params.get((stage, kind), 0),
            macs=sum(o.macs for o in group),
            activations=sum(o.activations for o in group),
            weight_bytes=sum(o.weight_bytes for o in group),
            activation_bytes=sum(o.activation_bytes for o in group),
        )
        for stage, kind in places
        for group in [groups.get((stage, kind), [])]
    )


def params_by_part(model: nn.Module) -> dict[tuple[str, str], int]:
    """Return the parameters by the stage and kind of the module that holds them."""
    found: Counter[tuple[str, str]] = Counter()
    seen: set[int] = set()
    blocks = se_blocks(model)
    for name, module in model.named_modules():
        path = name.split(".")
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:  # tied parameters count once, as everywhere
                seen.add(id(parameter))
                kind = kind_of(_operator_of(module), in_se=is_in_se(path, blocks))
                found[stage_of(path), kind] += parameter.numel()
    return dict(found)


def _operator_of(module: nn.Module) -> str:
    """Return the operator that a module's parameters are for."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "addmm"
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return "any_norm" if isinstance(module, norms) else type(module).__name__
