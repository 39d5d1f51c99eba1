"""int8 for `torch.compile`: torchao's PT2E flow with the x86 Inductor quantiser.

network ──► exported, any batch ──► observers, calibrated ──► Q and DQ ──► Inductor, frozen
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.compute.compiler import prepare_compiler
from bench.compute.exchange.artifact import save_program
from bench.compute.exchange.exported import quiet
from bench.compute.int8.calibration import Calibration
from bench.compute.session import Session, Unsupported, adapter, ready, stored_bytes
from bench.record.deployment import QuantizationFacts

METHOD = "torchao PT2E, X86InductorQuantizer, weights by channel, histogram observers"
CALIBRATION_BATCH = 16
LOWERED = re.compile(r"q(conv|linear).*_lower_count")


class _FunctionalReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def quantized(network: nn.Module, example: Tensor, calibration: Calibration) -> Session:
    """Quantise to int8 and run what Inductor makes of it, for batches like ``example``.

    What Inductor has put in int8 is known once it has compiled, which the first call does.
    """
    prepare_compiler()
    with quiet():
        made = convert(network, example, calibration)
    call, lowered = _compiled(made)
    computing = ("aten.conv2d.default", "aten.linear.default")
    operators = sum(str(node.target) in computing for node in made.graph.nodes)

    def facts() -> QuantizationFacts:
        return QuantizationFacts(
            method=METHOD,
            int8_operators=lowered(),
            operators=max(1, operators),
            calibration=calibration.facts,
        )

    return Session(
        call,
        adapter("cpu", "fp32"),
        weight_bytes=stored_bytes(made),
        quantized=facts,
        save=lambda path: save_program(made, example, path),
    )


def convert(network: nn.Module, example: Tensor, calibration: Calibration) -> Any:
    """Return the network with int8 weights and Q and DQ around what is to compute in int8.

    The quantiser takes the uses of one ReLU module in a block for one operator, and fails; the
    same function, called, it can tell apart. Unsupported where it cannot do with the network.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    twin = _with_functional_relu(ready(network, "cpu", "fp32"))
    two = example[:1].expand(2, -1, -1, -1).contiguous()
    with torch.no_grad():
        exported = torch.export.export(
            twin, (two,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        )
        try:
            observed = prepare_pt2e(exported.module(), quantizer)
        except ValueError as error:
            why = f"torchao's x86 quantiser cannot do with this network: {error}"
            raise Unsupported(why) from None
        for images in calibration.batches(CALIBRATION_BATCH):
            observed(images)
        return _without_unused(convert_pt2e(observed))


def _without_unused(made: Any) -> Any:
    """Take the fp32 weights away that int8 ones stand for now."""
    used = {node.target for node in made.graph.nodes if node.op == "get_attr"}
    for name in made.state_dict().keys() - used:
        owner, _, attribute = name.rpartition(".")
        delattr(made.get_submodule(owner), attribute)
    return made


def _with_functional_relu(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, _FunctionalReLU())
    return network


def _compiled(made: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[], int]]:
    """Return the call, and what tells how many operators its first one has put in int8.

    Freezing has to be set while Dynamo traces as well: as an option of `torch.compile` it would
    come too late for weights that are buffers.
    """
    import torch._inductor.config as config

    compiled: Callable[[Tensor], Tensor] = torch.compile(made, dynamic=False, fullgraph=True)
    calls: list[Callable[[Tensor], Tensor]] = []
    lowered: list[int] = []

    def first(images: Tensor) -> Tensor:
        before = _lowered()
        with torch.no_grad(), config.patch(freezing=True, fx_graph_cache=False), quiet():
            logits = compiled(images)
        lowered.append(_lowered() - before)
        calls[0] = compiled
        return logits

    calls.append(first)
    return lambda images: calls[0](images), lambda: sum(lowered)


def _lowered() -> int:
    """Return how many quantised convolutions and linear layers Inductor has made code of."""
    from torch._dynamo.utils import counters

    return sum(n for name, n in counters["inductor"].items() if LOWERED.fullmatch(name))
