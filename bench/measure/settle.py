"""A model to be profiled: built or loaded, counted, and given values that a clock can rely on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.measure import workload
from bench.record.cost import CostFacts
from bench.spec.run import ModelSpec

Build = Callable[[ModelSpec], nn.Module]
Count = Callable[[nn.Module, int], CostFacts]
DAMPING = 0.1


@dataclass(frozen=True)
class Candidate:
    """A model to profile: built, counted, and how long building (or loading) it took.

    ``trained`` tells whether it has weights whose accuracy means something.
    """

    spec: ModelSpec
    network: nn.Module
    cost: CostFacts
    load_s: float
    run_id: str | None = None
    trained: bool = False


def build_timed(model: ModelSpec, build: Build) -> tuple[nn.Module, float]:
    """Build a model, or load it; return it with the seconds that took."""
    begin = perf_counter()
    network = build(model).eval()
    return network, perf_counter() - begin


def candidate(
    model: ModelSpec,
    network: nn.Module,
    load_s: float,
    count: Count,
    run_id: str | None,
    *,
    trained: bool = False,
) -> Candidate:
    """Count a model's cost, and make it one that can be timed."""
    cost = count(network, model.image_size)
    if is_untrained(network):
        settle_untrained(network, model.image_size)
    return Candidate(model, network, cost, load_s, run_id, trained)


def is_untrained(network: nn.Module) -> bool:
    """Tell whether the BatchNorms have still the statistics that they are made with."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    return any(not norm.running_mean.any() for norm in norms if norm.running_mean is not None)


def settle_untrained(network: nn.Module, image_size: int) -> None:
    """Give an untrained network activations and gradients of the size that trained ones have.

    As it is made, a deep network's activations overflow fp16 and its gradients amplify rounding
    until no two runtimes agree. So the BatchNorms get the statistics of one batch, and the last
    one of every residual block is damped, much as Goyal et al. (1706.02677, section 5.1) start it
    at zero. What is computed, and so its cost, stays the same.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    for block in network.modules():
        own = [child for child in block.children() if isinstance(child, _BatchNorm)]
        if len(own) >= 2:
            nn.init.constant_(own[-1].weight, DAMPING)
    former = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(workload.random_images(16, image_size, seed=0))
    network.eval()
    for norm, momentum in zip(norms, former, strict=True):
        norm.momentum = momentum
