"""Runs that differ in their seed alone, as one trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bench.record.environment import Environment
from bench.record.run import Accuracy, RunRecord
from bench.report.read.load import LoadedRun
from bench.spec.recipe import Recipe
from bench.spec.run import ModelSpec
from bench.stats.accuracy import has_learnt, wilson
from bench.stats.luck import SeedSpread, spread_of, spread_of_shares
from bench.stats.times import Interval, mean_interval

# A training whose last epoch adds more than this fraction to its top-1 was stopped on the way.
FLAT = 0.01


@dataclass(frozen=True)
class Measured:
    """A value with the ends of its 95 % interval and how the interval was found.

    The ends are None where nothing can be said about them.
    """

    value: float
    low: float | None
    high: float | None
    method: str

    @classmethod
    def of(cls, interval: Interval, method: str) -> Measured:
        """Return an interval of `bench.stats.times` with its method; open ends become None."""
        if not math.isfinite(interval.high - interval.low):
            return cls(interval.estimate, None, None, method)
        return cls(interval.estimate, interval.low, interval.high, method)


@dataclass(frozen=True)
class Cell:
    """One model trained in one way on one data set, over its seeds.

    ``looks`` is how often they were looked at to see whether more are needed, 0 where their number
    was settled before.
    """

    key: str
    runs: tuple[LoadedRun, ...]
    looks: int = 0

    @property
    def record(self) -> RunRecord:
        """Return the record of the first seed, for all that the seeds share."""
        return self.runs[0].record

    @property
    def model(self) -> ModelSpec:
        return self.record.spec.model

    @property
    def recipe(self) -> Recipe:
        return self.record.spec.recipe

    @property
    def dataset(self) -> str:
        """Return what reports call the data set."""
        return self.runs[0].record.dataset.label

    @property
    def digest(self) -> str:
        return self.runs[0].record.dataset.digest

    @property
    def macs(self) -> int | None:
        """Return the multiply-accumulates of an image, as counted when it was trained."""
        return next((run.record.macs for run in self.runs if run.record.macs), None)

    @property
    def environment(self) -> Environment:
        return self.runs[0].record.environment

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.record.spec.seed for run in self.runs)

    @property
    def tests(self) -> tuple[Accuracy, ...]:
        return tuple(run.record.test for run in self.runs if run.record.test is not None)

    @cached_property
    def top1(self) -> Measured | None:
        return over_seeds([(t.top1_correct, t.num_images) for t in self.tests])

    @cached_property
    def top5(self) -> Measured | None:
        pairs = [(t.top5_correct, t.num_images) for t in self.tests if t.top5_correct is not None]
        return over_seeds(pairs)

    @cached_property
    def hits(self) -> NDArray[np.bool_] | None:
        """Return which image each seed got right (S, N); None unless every seed says so."""
        found = [run.predictions for run in self.runs if run.predictions is not None]
        if len(found) < len(self.runs) or len({p.test_set for p in found}) != 1:
            return None
        return np.stack([p.correct for p in found])

    @cached_property
    def has_learnt(self) -> bool:
        """Tell whether every seed does better than guessing (`bench.stats.accuracy`)."""
        classes = self.model.num_classes
        return all(has_learnt(t.top1_correct, t.num_images, classes, t.loss) for t in self.tests)

    @cached_property
    def last_epoch_gain(self) -> float | None:
        """Return by what fraction the last epoch raised top-1, of the seed it raised most.

        Of validation images where there are any, else of the training images; None where a seed
        has fewer than two epochs, such as with weights as loaded.
        """
        last = [run.record.epochs[-2:] for run in self.runs]
        if any(len(two) < 2 for two in last):
            return None
        return max(two[1].told_top1 - two[0].told_top1 for two in last)

    @property
    def still_learning(self) -> bool:
        """Tell whether more epochs would tell another accuracy: the curve has not flattened."""
        if self.last_epoch_gain is None:
            return bool(self.record.epochs)
        return self.last_epoch_gain > FLAT

    @cached_property
    def seed_spread(self) -> SeedSpread | None:
        """Return how the accuracies of several seeds spread; None with one."""
        if len(self.tests) < 2:
            return None
        shares = [test.top1 for test in self.tests]
        return spread_of_shares(shares) if self.hits is None else spread_of(self.hits)

    @property
    def top1_over_seeds(self) -> Interval | None:
        """Return the mean top-1 with Student's t over seeds; None with one."""
        return mean_interval([t.top1 for t in self.tests]) if len(self.tests) > 1 else None

    @property
    def seed_sd(self) -> float | None:
        """Return the standard deviation of top-1 over seeds; None with one."""
        return self.seed_spread.variance**0.5 if self.seed_spread else None

    @property
    def test_set(self) -> str | None:
        """Return what two cells share exactly if they were tested on the same labels in order."""
        return found.test_set if (found := self.runs[0].predictions) else None

    @cached_property
    def epoch_wall_s(self) -> float | None:
        """Return the median over all epochs of all seeds; None when nothing was trained."""
        times = [epoch.epoch_wall_s for run in self.runs for epoch in run.record.epochs]
        return median(times) if times else None

    @cached_property
    def train_throughput(self) -> float | None:
        """Return the median img/s over all epochs of all seeds; None when nothing was trained."""
        rates = [epoch.throughput for run in self.runs for epoch in run.record.epochs]
        return median(rates) if rates else None

    @property
    def runtime(self) -> str:
        """Return what was trained in: what ``auto`` chose, of each seed if they differ."""
        spec = self.runs[0].record.spec
        return ", ".join(dict.fromkeys(run.record.runtime or spec.runtime for run in self.runs))

    def seconds(self, name: str) -> float | None:
        """Return the mean over seeds of a field of the record in seconds, such as ``compile_s``."""
        told = [value for run in self.runs if (value := getattr(run.record, name)) is not None]
        return sum(told) / len(told) if told else None

    @cached_property
    def train_s(self) -> Measured | None:
        """Return the seconds that all epochs took, the mean over seeds."""
        totals = [sum(e.epoch_wall_s for e in run.record.epochs) for run in self.runs]
        if not any(totals):
            return None
        return Measured.of(mean_interval(totals), f"t over {len(totals)} seeds")


def over_seeds(counts: Sequence[tuple[int, int]]) -> Measured | None:
    """Return a mean fraction over seeds with Wilson's interval for the sampling of images alone.

    How far seeds are apart is another question (`Cell.seed_sd`), and no interval of one model
    mixes both: what two models differ by does.
    """
    if not counts:
        return None
    total = counts[0][1]
    mean = sum(correct / n for correct, n in counts) / len(counts)
    found = wilson(min(total, round(mean * total)), total)
    return Measured(mean, found.low, found.high, "Wilson, images")
