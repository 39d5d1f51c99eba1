"""Deployments: a model in one runtime, precision and device, with its own accuracy and cost.

What deploying loses is a paired difference to eager fp32 on the same images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.record.deployment import DeploymentAccuracy
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell, Measured
from bench.spec.run import ModelSpec, seed_of
from bench.stats.accuracy import Difference, has_learnt, mcnemar, paired, wilson
from bench.stats.decide import holm
from bench.stats.hits import unpack

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Deployment:
    """A profiled row with its own accuracy."""

    row: CostRow
    accuracy: DeploymentAccuracy

    @property
    def key(self) -> str:
        return self.row.key

    @property
    def model(self) -> ModelSpec:
        return self.row.model

    @property
    def label(self) -> str:
        record = self.row.first
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{record.model.name} {record.precision} {record.runtime}{seed}"

    @property
    def seed(self) -> int | None:
        """Return the seed of the run whose weights it has, by the run's name; None without one."""
        return seed_of(self.row.first.run_id or "")

    @cached_property
    def top1(self) -> Measured:
        interval = wilson(self.accuracy.top1_correct, self.accuracy.num_images)
        return Measured.of(interval, "Wilson, one run")

    @cached_property
    def top5(self) -> Measured | None:
        if self.accuracy.top5_correct is None:
            return None
        interval = wilson(self.accuracy.top5_correct, self.accuracy.num_images)
        return Measured.of(interval, "Wilson, one run")

    @cached_property
    def hits(self) -> Hits:
        """Return which test images it gets right (N,)."""
        return unpack(self.accuracy.hits, self.accuracy.num_images)

    @cached_property
    def reference_hits(self) -> Hits:
        """Return which test images eager fp32 gets right (N,)."""
        return unpack(self.accuracy.reference_hits, self.accuracy.num_images)

    @cached_property
    def difference(self) -> Difference:
        """Return how much better than eager fp32 it is, on the same images."""
        return paired(self.reference_hits, self.hits)

    @cached_property
    def p(self) -> float:
        """Return exact McNemar's p: it is one network, so that no luck of training is in it."""
        lost = int(np.count_nonzero(self.reference_hits & ~self.hits))
        won = int(np.count_nonzero(self.hits & ~self.reference_hits))
        return mcnemar(lost, won)

    @cached_property
    def has_learnt(self) -> bool:
        """Tell whether it does better than guessing; int8 may have lost what eager fp32 knows."""
        return self._beats_guessing(self.accuracy.top1_correct)

    @cached_property
    def network_has_learnt(self) -> bool:
        """Tell whether its network does better than guessing in eager fp32."""
        return self._beats_guessing(int(np.count_nonzero(self.reference_hits)))

    def _beats_guessing(self, correct: int) -> bool:
        return has_learnt(correct, self.accuracy.num_images, self.model.num_classes)

    @property
    def is_reference(self) -> bool:
        """Tell whether it is eager fp32 itself."""
        return self.row.first.runtime == "eager" and self.row.first.precision == "fp32"


def deployments(rows: Iterable[CostRow]) -> list[Deployment]:
    """Return the rows that have an accuracy of their own, timed or not."""
    return [Deployment(row, row.accuracy) for row in rows if row.accuracy is not None]


def adjusted_p(found: Sequence[Deployment]) -> dict[str, float]:
    """Return McNemar's p of each difference to eager fp32, by key, after Holm over them all."""
    tested = [one for one in found if not one.is_reference]
    return dict(zip((one.key for one in tested), holm([one.p for one in tested]), strict=True))


def is_of_row(cell: Cell, row: CostRow) -> bool:
    """Tell whether a trained cell's accuracy is that of what a row timed.

    A run is tested by eager operators; in fp32 these are what an eager row times. In bf16 and fp16
    they are not: a run is tested under autocast, a row times weights of that type. A training step
    yields the run's accuracy.
    """
    record, precision = row.first, cell.runs[0].record.spec.precision
    if record.mode == "train":
        return record.precision == precision
    return record.runtime in ("eager", "channels_last") and record.precision == precision == "fp32"


def tested_as(cell: Cell) -> str:
    """Return what a run's accuracy is of."""
    precision = cell.runs[0].record.spec.precision
    return "eager fp32" if precision == "fp32" else f"eager, autocast {precision}"
