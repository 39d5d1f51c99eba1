"""Seconds of training until an accuracy was first reached; runs that never did are censored.

The test set is seen once, after the last epoch, so the accuracy on the way is that on held-out
training images, or where none were held out that on the training images while they are learnt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bench.record.run import EpochFacts
from bench.report.derive.conditions import accuracy_conditions, training_conditions
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.stats.times import kaplan_meier_median

# Round accuracies: every five per cent, from 90 % on every one.
LEVELS = tuple(n / 100 for n in (*range(5, 90, 5), *range(90, 100)))
ABOVE_CHANCE = 0.05  # of what is left to learn: less than that guessing reaches too


@dataclass(frozen=True)
class Trace:
    """One run: the seconds of training at the end of each epoch, the best accuracy until then."""

    seconds: NDArray[np.float64]
    best: NDArray[np.float64]

    def first(self, top1: float) -> float | None:
        """Return the seconds after which ``top1`` was first reached; None when it never was."""
        place = int(np.searchsorted(self.best, top1 - 1e-9))
        return float(self.seconds[place]) if place < len(self.best) else None


@dataclass(frozen=True)
class Reach:
    """How soon the runs of a cell reached an accuracy.

    ``median_s`` is Kaplan and Meier's (1958) median, None when too few got there; ``low_s`` and
    ``high_s`` are the first and the last run that did. ``given_up_s`` is the shortest training
    that ended without, None when every run got there.
    """

    top1: float
    num_reached: int
    num_runs: int
    median_s: float | None
    low_s: float | None
    high_s: float | None
    given_up_s: float | None


@dataclass(frozen=True)
class Race:
    """Cells trained under equal conditions on equal devices, with a trace for each of their runs.

    ``held_out`` tells which images the accuracy is of.
    """

    cells: tuple[Cell, ...]
    held_out: bool
    traces: dict[str, tuple[Trace, ...]]

    @property
    def dataset(self) -> str:
        return self.cells[0].dataset

    @property
    def device(self) -> str:
        return self.cells[0].environment.device_name

    @property
    def what(self) -> str:
        """Return which accuracy it is."""
        return "held-out images" if self.held_out else "training images while they are learnt"

    @cached_property
    def targets(self) -> tuple[float, ...]:
        """Return up to three round accuracies: what all cells reach, what the best one reaches."""
        learnt = {cell.key for cell in self.cells if cell.has_learnt}
        bests = [
            median(float(t.best[-1]) for t in runs)
            for key, runs in self.traces.items()
            if key in learnt
        ]
        if not bests:
            return ()
        chance = 1 / self.cells[0].model.num_classes
        least = chance + ABOVE_CHANCE * (1 - chance)
        levels = [level for level in LEVELS if level >= least]
        told = [cell.runs[0].record.spec.target_top1 for cell in self.cells if self.held_out]
        wanted = [level for level in told if level is not None and level >= least]
        common = [level for level in levels if level <= min(bests)][-1:]
        beyond = [level for level in levels if min(bests) < level <= max(bests)]
        chosen = {*common, *beyond[-1:], *beyond[(len(beyond) - 1) // 2 :][:1], *wanted}
        return tuple(sorted(chosen))

    def reach(self, cell: Cell, top1: float) -> Reach:
        """Return how soon the runs of a cell reached ``top1``."""
        traces = self.traces[cell.key]
        times = [trace.first(top1) for trace in traces]
        reached = sorted(seconds for seconds in times if seconds is not None)
        missed = [float(t.seconds[-1]) for t, s in zip(traces, times, strict=True) if s is None]
        return Reach(
            top1,
            len(reached),
            len(traces),
            kaplan_meier_median(reached, missed),
            min(reached, default=None),
            max(reached, default=None),
            min(missed, default=None),
        )


def races(study: Study) -> list[Race]:
    """Return the cells that can be raced against each other, the largest group first."""
    groups: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in study.cells:
        if all(run.record.epochs for run in cell.runs):
            groups[repr((accuracy_conditions(cell), training_conditions(cell)))].append(cell)
    ordered = sorted(groups.values(), key=lambda cells: (-len(cells), cells[0].key))
    return [_race(cells) for cells in ordered]


def _race(cells: Sequence[Cell]) -> Race:
    every = [epoch for cell in cells for run in cell.runs for epoch in run.record.epochs]
    held_out = all(epoch.val_top1 is not None for epoch in every)
    traces = {
        cell.key: tuple(_trace(run.record.epochs, held_out) for run in cell.runs) for cell in cells
    }
    return Race(tuple(cells), held_out, traces)


def _trace(epochs: Sequence[EpochFacts], held_out: bool) -> Trace:
    top1 = [(epoch.val_top1 or 0.0) if held_out else epoch.top1 for epoch in epochs]
    seconds = np.cumsum([epoch.epoch_wall_s for epoch in epochs])
    return Trace(seconds, np.maximum.accumulate(np.array(top1)))
