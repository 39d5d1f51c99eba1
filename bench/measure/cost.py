"""Count what a model costs without a clock: params, macs, flops, operators, activations, bytes.

A count is believed because three counters that share no code agree on it to the last integer: this
project's, torch's and fvcore's (whose "flops" are multiply-accumulates).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.measure.operators import (
    Operator,
    blank_copy,
    blank_image,
    is_in_se,
    kind_of,
    stage_of,
    trace,
)
from bench.record.cost import CostFacts, CostPart
from senet.weights import unwrap

# What fvcore calls the operators that `macs` is made of; the others it adds are not.
FVCORE_MAC_OPERATORS = frozenset({"conv", "linear", "addmm", "matmul", "bmm", "einsum"})


class CountersDisagreeError(RuntimeError):
    """Independent counters gave different multiply-accumulates; no number is to be believed."""


def count(model: nn.Module, image_size: int) -> CostFacts:
    """Return the cost of one image (3, image_size, image_size) in inference.

    The model is not run and not changed: a copy without its weights, in eval mode, is. UserError
    when nothing can be counted; `CountersDisagreeError` when the counters differ.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise UserError(f"image size must be an integer of at least 1, not {image_size!r}")
    model = unwrap(model)
    seen = trace(model, image_size)
    macs = sum(operator.macs for operator in seen.operators)
    if macs == 0:
        raise UserError(f"{type(model).__name__} has no convolution and no linear layer to count")
    counts = {
        "this project": macs,
        "torch.utils.flop_counter": seen.torch_flops / 2,
        "fvcore": sum(
            n for name, n in fvcore_counts(model, image_size).items()
            if name in FVCORE_MAC_OPERATORS
        ),
    }  # fmt: skip
    check_agreement(counts, f"{type(model).__name__} at {image_size}×{image_size}")
    return _facts(model, seen.operators)


def layer_macs(model: nn.Module, image_size: int) -> int:
    """Return `count`'s macs from the layers' output sizes alone, in milliseconds.

    For lists of models: nothing is cross-checked, and what is no Conv2d or Linear module is missed.
    """
    twin, macs = blank_copy(unwrap(model), "meta"), 0

    def add(layer: nn.Conv2d | nn.Linear, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        twin(blank_image(image_size, "meta"))
    return macs


def check_agreement(counts: dict[str, float], what: str) -> None:
    """Raise `CountersDisagreeError` unless all counters found the same number."""
    if len(set(counts.values())) > 1:
        first = next(iter(counts.values()))
        listed = ", ".join(f"{name} {n:,.0f} ({n - first:+,.0f})" for name, n in counts.items())
        raise CountersDisagreeError(f"multiply-accumulates of {what} differ: {listed}")


def fvcore_counts(model: nn.Module, image_size: int) -> dict[str, int]:
    """Return fvcore's count of one image, operator by operator, as fvcore means it.

    fvcore traces real arithmetic, here on a copy of zeros on the CPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore relies on torch.jit, deprecated since torch 2.13
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(blank_copy(model, "cpu"), blank_image(image_size, "cpu"))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        with torch.no_grad():
            found = analysis.by_operator()
    return {name: int(n) for name, n in found.items()}


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
            activations=sum(o.written for o in group if o.macs),
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
    for name, module in model.named_modules():
        path = name.split(".")
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:  # tied parameters count once, as everywhere
                seen.add(id(parameter))
                kind = kind_of(_operator_of(module), in_se=is_in_se(path))
                found[stage_of(path[0]), kind] += parameter.numel()
    return dict(found)


def _operator_of(module: nn.Module) -> str:
    """Return the operator that a module's parameters are for."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "addmm"
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return "any_norm" if isinstance(module, norms) else type(module).__name__
