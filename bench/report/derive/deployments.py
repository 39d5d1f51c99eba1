"""Which deployments to take, and whether SE's gate is what a precision costs.

Asked with the accuracy of exactly what was timed, never with another's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.report.derive.conditions import OF_PRECISION, largest_alike, speed_conditions
from bench.report.derive.headline import machine_of
from bench.report.derive.pareto import (
    NUM_DRAWS,
    best_within,
    burden_at,
    burden_draws,
    cost_errors,
    front_chances,
    unknown_noise,
)
from bench.report.derive.seeds import SeedLuck
from bench.report.derive.speed.attention_tax import twins
from bench.report.derive.speed.axes import Axis, latency_ms, throughput
from bench.report.read.deployed import Deployment, deployments
from bench.report.read.models import model_order
from bench.report.read.profiled import CostRow
from bench.spec.run import ModelSpec
from bench.stats.accuracy import Difference, contrast, corrected
from bench.stats.decide import Finding, finding
from bench.stats.luck import Luck
from bench.stats.pareto import on_front

UNKNOWN_LUCK = "these are several trained networks, and images alone do not tell how lucky each was"


@dataclass(frozen=True)
class Point:
    """A deployment on the plane of accuracy and one cost, with its chance of being on the front.

    None where the noise of a cost is unknown.
    """

    deployment: Deployment
    on_front: bool
    probability: float | None


@dataclass(frozen=True)
class DeploymentChoice:
    """The deployment to take up to a budget, and how probably it is the best within it."""

    budget: float
    deployment: Deployment
    probability: float | None


@dataclass(frozen=True)
class DeploymentFront:
    """The deployments of one data set on one axis, the cheapest first.

    ``withheld`` says why there are no probabilities.
    """

    dataset: str
    axis: Axis
    points: tuple[Point, ...]
    choices: tuple[DeploymentChoice, ...]
    withheld: str


def deployment_fronts(rows: Iterable[CostRow]) -> list[DeploymentFront]:
    """Return the fronts of the timed deployments, for each data set, machine and kind of cost.

    What does no better than guessing is on none, nor what was measured under other conditions.
    """
    groups: defaultdict[tuple[object, ...], list[Deployment]] = defaultdict(list)
    for one in deployments(rows):
        record = one.row.first
        if one.row.timing is not None and record.mode == "infer" and one.has_learnt:
            place = (machine_of(one.row), record.scenario, record.batch_size)
            groups[(one.accuracy.digest, *place)].append(one)
    alike = map(_alike, groups.values())
    found = (_front(group) for group in alike if len(group) > 1)
    return sorted(found, key=lambda front: (front.dataset, front.axis.name))


def _alike(group: Sequence[Deployment]) -> list[Deployment]:
    """Return those measured under the conditions that most share, whatever they compute in."""
    rows = largest_alike({one.key: one.row for one in group}, ("runtime", *OF_PRECISION))
    return [one for one in group if one.key in rows]


def _front(group: Sequence[Deployment]) -> DeploymentFront:
    axis = _axis(group)
    ordered = sorted(group, key=lambda one: (burden_at(axis, one.key), one.key))
    top1 = np.array([one.top1.value for one in ordered])
    burden = np.array([burden_at(axis, one.key) for one in ordered])
    errors = cost_errors(axis, [one.key for one in ordered])
    withheld, drawn = unknown_noise(errors) or _unknown_luck(ordered), None
    chances: list[float | None] = [None] * len(ordered)
    if not withheld:
        drawn = _accuracy_draws(ordered), burden_draws(burden, errors)
        chances = front_chances(*drawn).tolist()
    points = tuple(map(Point, ordered, on_front(top1, burden).tolist(), chances))
    choices = tuple(
        DeploymentChoice(budget, ordered[best], p)
        for budget, best, p in best_within(axis, top1, burden, drawn)
    )
    return DeploymentFront(ordered[0].accuracy.dataset, axis, points, choices, withheld)


def _unknown_luck(group: Sequence[Deployment]) -> str:
    """Return why deployments of these networks give no chances; nothing where it is but one.

    What a precision or a runtime does to one trained network, the images alone tell. Which of
    several networks is the best rests on the luck of their trainings as well.
    """
    networks = {one.reference_hits.tobytes() for one in group}
    return UNKNOWN_LUCK if len(networks) > 1 else ""


def _axis(group: Sequence[Deployment]) -> Axis:
    record = group[0].row.first
    device, batch = record.environment.device_name, record.batch_size
    rows = {one.key: one.row for one in group}
    if record.scenario == "single_stream":
        values = {key: latency_ms(row) for key, row in rows.items()}
        return Axis("deployed-latency", f"latency, {device}, one image", "ms", True, values, rows)
    rates = {key: throughput(row) for key, row in rows.items()}
    title = f"throughput, {device}, batch {batch}"
    return Axis(f"deployed-throughput-b{batch}", title, "img/s", False, rates, rows)


def _accuracy_draws(group: Sequence[Deployment]) -> NDArray[np.float64]:
    """Return draws of accuracy (NUM_DRAWS, M): images are drawn once for all deployments."""
    hits = np.stack([one.hits for one in group], axis=1).astype(np.float64)
    draw, num_images = np.random.default_rng(0), len(hits)
    even = np.full(num_images, 1 / num_images)
    counts = (draw.multinomial(num_images, even) for _ in range(NUM_DRAWS))
    return np.stack([count @ hits / num_images for count in counts])


@dataclass(frozen=True)
class GateLoss:
    """What a precision in a runtime costs an SE model beyond its plain twin.

    ``p_family`` is Holm's over all such losses; None where the luck of training is unknown, and
    ``extra`` then is that of these two networks.
    """

    model: ModelSpec
    precision: str
    runtime: str
    batch_size: int
    se: Deployment
    plain: Deployment
    extra: Difference
    p_family: float | None = None

    @property
    def finding(self) -> Finding:
        """Return what may be said of the two models: that SE's loses less means more."""
        return finding(self.extra.interval.estimate, self.p_family, None)


def gate_losses(rows: Iterable[CostRow], luck: SeedLuck) -> list[GateLoss]:
    """Return, wherever both were tested, whether SE's gate is what int8 (or another) costs.

    The difference of two differences to eager fp32, all four on the same images, of networks that
    have learnt.
    """
    found = [one for one in deployments(rows) if one.network_has_learnt]
    places = {_place(one): one for one in found}
    losses = []
    for model, twin in twins([one.row for one in found]):
        for one in sorted(found, key=lambda d: (model_order(d.model), d.label)):
            other = places.get((twin, *_place(one)[1:]))
            if one.model != model or other is None or one.row.first.precision == "fp32":
                continue
            extra = _extra(one, other, luck.on(one.accuracy.digest))
            record = one.row.first
            losses.append(
                GateLoss(
                    model, record.precision, record.runtime, record.batch_size, one, other, extra
                )
            )
    judged = corrected([loss.extra for loss in losses], None)
    return [replace(loss, p_family=p) for loss, (p, _) in zip(losses, judged, strict=True)]


def _extra(one: Deployment, other: Deployment, luck: Luck | None) -> Difference:
    """Return how much more the first gains, or the less it loses, than the other.

    What a precision does to a training is taken to vary over trainings as accuracy itself does,
    which is cautious: both accuracies of a network are of one training, so that of four arms two
    are drawn. The noise of images is counted beside it.
    """
    arms = [one.hits, one.reference_hits, other.hits, other.reference_hits]
    halved = luck and replace(luck, sd=luck.sd / math.sqrt(2), noise=0.0)
    found = contrast([arm[None] for arm in arms], [1.0, -1.0, -1.0, 1.0], halved)
    return replace(found, luck=luck)


def _place(one: Deployment) -> tuple[object, ...]:
    """Return what a pair shares but for the model: networks of one seed saw the same images."""
    return (one.model, one.accuracy.digest, one.seed, repr(speed_conditions(one.row)))
