"""Group records into what a report speaks of: trained cells over seeds, and cost rows.

A `Cell` is one model trained one way on one data set; its runs differ in the seed alone. A
`CostRow` is one model on one device in one setting; its profiles are repeats in other processes.
Both are joined on `bench.spec.ModelSpec`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import wilson
from bench.record import Accuracy, Environment, ProfileRecord
from bench.report.load import Loaded, LoadedProfile, LoadedRun, SetAside
from bench.report.timings import Timing, timing_of
from bench.spec import ModelSpec, Recipe
from bench.stats import Interval, mean_interval

Item = TypeVar("Item")


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
        """Return an interval of `bench.stats` with its method; open ends become None."""
        if not math.isfinite(interval.high - interval.low):
            return cls(interval.estimate, None, None, method)
        return cls(interval.estimate, interval.low, interval.high, method)


@dataclass(frozen=True)
class Cell:
    """One model trained in one way on one data set, over its seeds."""

    key: str
    runs: tuple[LoadedRun, ...]

    @property
    def model(self) -> ModelSpec:
        return self.runs[0].record.spec.model

    @property
    def recipe(self) -> Recipe:
        return self.runs[0].record.spec.recipe

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
        return _measured([(t.top1_correct, t.num_images) for t in self.tests])

    @cached_property
    def top5(self) -> Measured | None:
        pairs = [(t.top5_correct, t.num_images) for t in self.tests if t.top5_correct is not None]
        return _measured(pairs)

    @cached_property
    def hits(self) -> NDArray[np.bool_] | None:
        """Return which image each seed got right (S, N); None unless every seed says so."""
        found = [run.predictions for run in self.runs if run.predictions is not None]
        if len(found) < len(self.runs) or len({p.test_set for p in found}) != 1:
            return None
        return np.stack([p.correct for p in found])

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


def _measured(counts: list[tuple[int, int]]) -> Measured | None:
    """Return a mean fraction: Wilson's interval for one seed, Student's t over several."""
    if not counts:
        return None
    if len(counts) == 1:
        return Measured.of(wilson(*counts[0]), "Wilson, one seed")
    shares = [correct / total for correct, total in counts]
    return Measured.of(mean_interval(shares), f"t over {len(shares)} seeds")


TRAIN_FACTOR = 3
"""A training step's work over a forward pass's: the backward pass computes two gradients."""


@dataclass(frozen=True)
class CostRow:
    """One model on one device, precision, runtime, mode, scenario and batch size."""

    key: str
    profiles: tuple[LoadedProfile, ...]

    @property
    def first(self) -> ProfileRecord:
        return self.profiles[0].record

    @property
    def model(self) -> ModelSpec:
        return self.first.model

    @property
    def environment(self) -> Environment:
        return self.first.environment

    @property
    def peak_memory_bytes(self) -> int | None:
        """Return the largest peak over the profiles; None where it was not read."""
        peaks = [p.record.memory.peak_bytes for p in self.profiles if p.record.memory]
        return max(peaks, default=None)

    @property
    def joules_per_image(self) -> float | None:
        """Return the energy over all windows by all their images; None where it was not read."""
        read = [p.record.energy for p in self.profiles if p.record.energy]
        pairs = [(e.joules, e.num_images) for e in read if e.joules and e.num_images]
        images = sum(count for _, count in pairs)
        return sum(joules for joules, _ in pairs) / images if images else None

    @property
    def achieved_flops(self) -> float | None:
        """Return the FLOP/s of convolutions and linear layers, 2 a multiply-accumulate."""
        if self.timing is None:
            return None
        factor = TRAIN_FACTOR if self.first.mode == "train" else 1
        return factor * self.first.cost.flops * self.timing.throughput

    @property
    def peak_flops(self) -> float | None:
        """Return the most arithmetic measured in the row's sittings, in its precision."""
        machines = [p.record.machine for p in self.profiles if p.record.machine]
        peaks = [m.peak_flops(self.first.precision) or 0.0 for m in machines]
        return max(peaks, default=0.0) or None

    @property
    def utilisation(self) -> float | None:
        """Return the share of the machine's peak of arithmetic; None where one is unknown."""
        achieved, peak = self.achieved_flops, self.peak_flops
        return achieved / peak if achieved and peak else None

    def price_per_million(self, price_per_hour: float | None) -> float | None:
        """Return what a million images cost on a machine at this price an hour."""
        if self.timing is None or price_per_hour is None:
            return None
        return price_per_hour / 3600 / self.timing.throughput * 1e6

    @property
    def created_at(self) -> str:
        """Return when the last of its profiles was made."""
        return max(profile.record.created_at for profile in self.profiles)

    @cached_property
    def timing(self) -> Timing | None:
        return timing_of([profile.record for profile in self.profiles])


@dataclass(frozen=True)
class Study:
    """All cells and cost rows of a report, with what was set aside.

    ``price_per_hour`` is what an hour of the profiled machine costs, in any currency.
    """

    cells: tuple[Cell, ...]
    costs: tuple[CostRow, ...]
    set_aside: tuple[SetAside, ...]
    looked_in: tuple[str, ...]
    num_runs: int
    num_profiles: int
    price_per_hour: float | None = None

    @cached_property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """Return (label, digest) of every data set, the one with most cells first."""
        counts = Counter((cell.dataset, cell.digest) for cell in self.cells)
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """Return every model, in the order of `model_order`."""
        found = {cell.model for cell in self.cells} | {row.model for row in self.costs}
        return tuple(sorted(found, key=model_order))


def study(loaded: Loaded, price_per_hour: float | None = None) -> Study:
    """Group what was loaded; the order depends on the records' content alone."""
    cells = [
        Cell(key, tuple(sorted(runs, key=lambda r: r.record.spec.seed)))
        for key, runs in _grouped(loaded.runs, _cell_key).items()
    ]
    costs = [
        CostRow(key, tuple(sorted(rows, key=lambda p: p.record.id)))
        for key, rows in _grouped(loaded.profiles, _cost_key).items()
    ]
    return Study(
        cells=tuple(sorted(cells, key=lambda c: (c.dataset, model_order(c.model), c.key))),
        costs=tuple(sorted(costs, key=_cost_order)),
        set_aside=loaded.set_aside,
        looked_in=loaded.looked_in,
        num_runs=len(loaded.runs),
        num_profiles=len(loaded.profiles),
        price_per_hour=price_per_hour,
    )


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _cell_key(run: LoadedRun) -> str:
    """Return what the runs of one cell share: all but the seed and the place of the data."""
    spec = run.record.spec.model_dump(mode="json", exclude={"seed": True, "data": {"data_dir"}})
    env = run.record.environment
    facts = {
        "spec": spec,
        "digest": run.record.dataset.digest,
        "label": run.record.dataset.label,
        "device_name": env.device_name,
        "freed_memory": env.freed_memory,
        "versions": versions(env),
    }
    return json.dumps(facts, sort_keys=True)


def _cost_key(profile: LoadedProfile) -> str:
    """Return what repeats of one profile share; other environments are never pooled."""
    record, env = profile.record, profile.record.environment
    facts = {
        "model": record.model.model_dump(mode="json"),
        "setting": [record.mode, record.scenario, record.precision, record.runtime],
        "batch_size": record.batch_size,
        "status": record.status,
        "machine": [env.host, env.device, env.device_name, env.driver, env.cpu_model],
        "threads": env.num_threads,
        "packages": env.packages,
        "commit": [env.commit, env.dirty],
        "flags": env.flags,
        "env": env.env,
    }
    return json.dumps(facts, sort_keys=True)


def versions(env: Environment) -> dict[str, str | None]:
    """Return the versions of what computes the numbers."""
    return {name: env.packages.get(name) for name in ("torch", "torchvision")}


def has_se(model: ModelSpec) -> bool:
    """Return whether the model has SE blocks."""
    return model.reduction is not None or model.name.startswith("se_")


def depth(model: ModelSpec) -> int | None:
    """Return the number of layers that a model is named after."""
    digits = re.search(r"(\d+)$", model.name)
    return int(digits[1]) if digits and len(digits[1]) < 6 else None


def model_order(model: ModelSpec) -> tuple[Hashable, ...]:
    """Return the sort key of a model: shallow before deep, plain before SE, then by name."""
    rank = depth(model)
    return (
        rank is None,
        rank or 0,
        has_se(model),
        model.name,
        model.stem,
        model.num_classes,
        model.image_size,
        model.reduction or 0,
        bool(model.se_bias),
        model.se_divisor or 0,
    )


def _cost_order(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.environment
    setting = (record.mode, record.scenario, record.precision, record.runtime, record.batch_size)
    return (env.device, env.device_name, model_order(row.model), setting, row.key)
