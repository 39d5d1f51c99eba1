"""What attention brings: every model with attention beside its plain twin, and what others say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.derive.conditions import accuracy_conditions, training_conditions
from bench.report.derive.pairs import difference_of
from bench.report.derive.published import PublishedGain, gains_beside, reasons
from bench.report.derive.seeds import SeedLuck
from bench.report.derive.speed.attention_tax import TaxLine
from bench.report.read.models import depth, family, kind, plain_twin, width
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats.accuracy import Difference
from bench.stats.decide import Finding, finding
from bench.stats.times import Interval

EPOCH = "training epoch, timed apart"


@dataclass(frozen=True)
class Claim:
    """A published gain beside ours; ``why_not`` is empty exactly if both are comparable."""

    gain: PublishedGain
    why_not: tuple[str, ...]


@dataclass(frozen=True)
class Gain:
    """How much better a model is with its attention than without, all else equal.

    ``p_family`` and ``p_same`` are those of the pair in its family: two cells have one verdict in a
    report. ``claims`` are the published gains of the same network and attention.
    """

    plain: Cell
    full: Cell
    difference: Difference
    claims: tuple[Claim, ...]
    p_family: float | None = None
    p_same: float | None = None

    @property
    def finding(self) -> Finding:
        """Return what may be said of the attention: more, less, the same, or nothing."""
        return finding(self.difference.interval.estimate, self.p_family, self.p_same)


def gains(study: Study, luck: SeedLuck) -> list[Gain]:
    """Return the gain of each model whose plain twin was trained alike, data set by data set."""
    plain = {(_condition(cell), cell.model): cell for cell in study.cells if cell.has_learnt}
    found: list[Gain] = []
    for cell in sorted(study.cells, key=_order):
        twin = plain_twin(cell.model)
        base = plain.get((_condition(cell), twin)) if twin and cell.has_learnt else None
        if base is None or not cell.tests or not base.tests:
            continue
        difference = difference_of(base, cell, luck.of([base, cell]))
        if difference is not None:
            found.append(Gain(base, cell, difference, _claims(base, cell)))
    return found


def _condition(cell: Cell) -> str:
    """Return what two cells must share: what they were trained and tested on, and how."""
    training = (cell.environment.device_name, cell.runtime, cell.test_set)
    return repr((accuracy_conditions(cell), training))


def _order(cell: Cell) -> tuple[object, ...]:
    """Return the sort key that puts one attention in one family together, shallow before deep."""
    model = cell.model
    sizes = (depth(model) or 0, width(model) or 0)
    return (cell.dataset, family(model), model.stem or "", kind(model), sizes, cell.key)


def _claims(plain: Cell, full: Cell) -> tuple[Claim, ...]:
    """Return the published gains, with every reason that either side of one is not as ours."""
    found = [
        Claim(gain, tuple(dict.fromkeys(reasons(full, gain.full) + reasons(plain, gain.plain))))
        for gain in gains_beside(full)
    ]
    return tuple(sorted(found, key=lambda claim: len(claim.why_not)))


@dataclass(frozen=True)
class GainPoint:
    """A gain beside what it costs in time, both as measured: one point of the chart."""

    gain: Gain
    time: Interval
    what: str


def priced(found: Sequence[Gain], lines: Sequence[TaxLine]) -> list[GainPoint]:
    """Return the gains whose cost in time is known, all in the measurement that most of them have.

    A rate counts as the time of an image. Where nothing was profiled, epochs under equal
    conditions are compared, which were timed apart.
    """
    by_kind: defaultdict[str, list[GainPoint]] = defaultdict(list)
    for gain in found:
        for line in lines:
            if _same_network(line.model, gain.full.model):
                for what, ratio in line.times().items():
                    by_kind[what].append(GainPoint(gain, ratio, what))
        epochs = (gain.plain.epoch_wall_s, gain.full.epoch_wall_s)
        alike = training_conditions(gain.plain) == training_conditions(gain.full)
        if epochs[0] and epochs[1] and alike:
            estimate = epochs[1] / epochs[0]
            apart = Interval(estimate, 0.0, math.inf, 1)
            by_kind[EPOCH].append(GainPoint(gain, apart, EPOCH))
    measured = [points for what, points in by_kind.items() if what != EPOCH]
    return max(measured or by_kind.values(), key=len, default=[])


def _same_network(one: ModelSpec, other: ModelSpec) -> bool:
    """Return whether two models are one network but for the number of classes."""
    return one.model_copy(update={"num_classes": other.num_classes}) == other
