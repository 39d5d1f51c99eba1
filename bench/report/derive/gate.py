"""Compare two sets of measurements row by row: faster, slower, same, or not comparable.

A set is a folder of records or a JSON file of pytest-benchmark. Rows are matched by what was
measured; they are compared only if they were measured under equal conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.report.derive.conditions import (
    Mismatch,
    accuracy_conditions,
    mismatches,
    speed_conditions,
)
from bench.report.derive.pairs import LEVEL, difference_of
from bench.report.derive.ratios import apart, time_ratio
from bench.report.read.load import load
from bench.report.read.profiled import CostRow
from bench.report.read.pytest_json import Benchmark, is_benchmark_file, read_benchmarks
from bench.report.read.study import study
from bench.report.read.trained import Cell
from bench.stats import accuracy
from bench.stats.times import Interval, differs

Verdict = Literal[
    "faster", "slower", "same", "better", "worse", "changed", "not comparable", "gone", "new"
]
REGRESSIONS = ("slower", "worse")


@dataclass(frozen=True)
class Change:
    """One row of both sets and what became of it.

    ``interval`` is the ratio of times new / base, or for ``kind`` accuracy the difference of
    top-1 as a fraction; ``base`` and ``new`` are the values that it comes from.
    """

    kind: Literal["time", "accuracy", "count"]
    what: str
    verdict: Verdict
    base: float | None
    new: float | None
    interval: Interval | None
    mismatches: tuple[Mismatch, ...] = ()
    note: str = ""

    def regressed(self, threshold: float) -> bool:
        """Return whether this is a significant change for the worse.

        For times the change must also be at least ``threshold`` (a fraction); any significant
        loss of accuracy and any growth of a count is one.
        """
        if self.kind == "count":
            return self.base is not None and self.new is not None and self.new > self.base
        if self.verdict not in REGRESSIONS or self.interval is None:
            return False
        return self.kind == "accuracy" or self.interval.estimate >= 1 + threshold


@dataclass(frozen=True)
class Measurements:
    """What one side of a comparison holds."""

    cells: tuple[Cell, ...]
    costs: tuple[CostRow, ...]
    benchmarks: tuple[Benchmark, ...]


def read(place: Path) -> Measurements:
    """Return what a folder of records, a record, or a file of pytest-benchmark holds.

    Raises UserError when there is none of these.
    """
    if place.is_file() and is_benchmark_file(place):
        return Measurements((), (), tuple(read_benchmarks(place)))
    found = study(load([place]))
    return Measurements(found.cells, found.costs, ())


def compare(base: Measurements, new: Measurements, force: bool = False) -> list[Change]:
    """Return what changed from ``base`` to ``new``, times first.

    ``force`` compares also rows whose conditions differ; they keep their mismatches as a mark.
    """
    return [
        *_times(base.costs, new.costs, force),
        *_benchmarks(base.benchmarks, new.benchmarks, force),
        *_counts(base.costs, new.costs),
        *_accuracies(base.cells, new.cells, force),
    ]


def _cost_name(row: CostRow) -> str:
    record, model = row.first, row.model
    se = f", r={model.reduction}{'' if model.se_bias else ', no bias'}" if model.reduction else ""
    return (
        f"{model.name}, {model.stem} stem{se}, {model.image_size} px, {model.num_classes} classes: "
        f"{record.mode}, {record.scenario.replace('_', '-')}, {row.environment.device}, "
        f"{record.precision}, {record.runtime}, batch {record.batch_size}"
    )


def _newest(rows: Iterable[CostRow]) -> dict[str, CostRow]:
    """Return the rows by name; where several environments measured one, the last."""
    ordered = sorted(rows, key=lambda row: (row.created_at, row.key))
    return {_cost_name(row): row for row in ordered if row.timing is not None}


def _times(base: Sequence[CostRow], new: Sequence[CostRow], force: bool) -> list[Change]:
    before, after = _newest(base), _newest(new)
    changes = [_one_sided("time", name, before, after) for name in sorted(before.keys() ^ after)]
    for name in sorted(before.keys() & after):
        old, row = before[name], after[name]
        found = mismatches(speed_conditions(old), speed_conditions(row))
        ratio = time_ratio(row, old) if force or not found else None
        assert old.timing is not None
        assert row.timing is not None
        values = (old.timing.call_s.estimate, row.timing.call_s.estimate)
        if ratio is None:
            changes.append(Change("time", name, "not comparable", *values, None, found))
            continue
        verdict = _faster_or_slower(ratio.interval, ratio.floor)
        changes.append(Change("time", name, verdict, *values, ratio.interval, found, ratio.method))
    return sorted(changes, key=lambda change: change.what)


def _faster_or_slower(ratio: Interval, floor: float | None) -> Verdict:
    if not differs(ratio, floor):
        return "same"
    return "slower" if ratio.estimate > 1 else "faster"


def _one_sided(
    kind: Literal["time", "accuracy"], name: str, before: object, after: object
) -> Change:
    assert isinstance(before, dict)
    return Change(kind, name, "gone" if name in before else "new", None, None, None)


def _benchmarks(base: Sequence[Benchmark], new: Sequence[Benchmark], force: bool) -> list[Change]:
    before, after = ({b.name: b for b in side} for side in (base, new))
    changes = [_one_sided("time", name, before, after) for name in sorted(before.keys() ^ after)]
    for name in sorted(before.keys() & after):
        old, row = before[name], after[name]
        found = mismatches(old.conditions, row.conditions)
        values = (old.seconds.estimate, row.seconds.estimate)
        if found and not force:
            changes.append(Change("time", name, "not comparable", *values, None, found))
            continue
        ratio = apart(row.seconds, old.seconds)
        verdict = _faster_or_slower(ratio, None)
        changes.append(Change("time", name, verdict, *values, ratio, found, "timed apart"))
    return sorted(changes, key=lambda change: change.what)


def _counts(base: Sequence[CostRow], new: Sequence[CostRow]) -> list[Change]:
    """Return the counted costs that are not what they were: no interval, no excuse."""
    before, after = (_counted(side) for side in (base, new))
    return [
        Change("count", name, "changed", before[name], after[name], None)
        for name in sorted(before.keys() & after)
        if before[name] != after[name]
    ]


def _counted(rows: Sequence[CostRow]) -> dict[str, int]:
    counts = {}
    for row in rows:
        model = _cost_name(row).partition(":")[0]
        counts[f"params of {model}"] = row.first.cost.params
        counts[f"MACs of {model}"] = row.first.cost.macs
    return counts


def _cell_name(cell: Cell) -> str:
    recipe, model = cell.recipe, cell.model
    se = f", r={model.reduction}{'' if model.se_bias else ', no bias'}" if model.reduction else ""
    trained = f"{recipe.name}, {recipe.epochs} epochs, {cell.runs[0].record.spec.precision}"
    return f"top-1 of {model.name}, {model.stem} stem{se} on {cell.dataset} ({trained})"


def _accuracies(base: Sequence[Cell], new: Sequence[Cell], force: bool) -> list[Change]:
    before = {_cell_name(cell): cell for cell in base if cell.top1}
    after = {_cell_name(cell): cell for cell in new if cell.top1}
    changes = [_one_sided("accuracy", n, before, after) for n in sorted(before.keys() ^ after)]
    compared: list[tuple[Change, float]] = []
    for name in sorted(before.keys() & after):
        old, cell = before[name], after[name]
        found = mismatches(accuracy_conditions(old), accuracy_conditions(cell))
        assert old.top1 is not None
        assert cell.top1 is not None
        values = (old.top1.value, cell.top1.value)
        measured = difference_of(old, cell) if force or not found else None
        if measured is None or old.digest != cell.digest:
            changes.append(Change("accuracy", name, "not comparable", *values, None, found))
            continue
        change = Change(
            "accuracy", name, "same", *values, measured.interval, found, measured.method
        )
        compared.append((change, measured.p))
    return changes + _judged(compared)


def _judged(compared: Sequence[tuple[Change, float]]) -> list[Change]:
    """Return the accuracy rows with a verdict each, corrected for their number."""
    adjusted = accuracy.holm([p for _, p in compared])
    judged = []
    for (change, _), p in zip(compared, adjusted, strict=True):
        assert change.interval is not None
        if p < LEVEL and not change.interval.contains(0.0):
            better: Verdict = "better" if change.interval.estimate > 0 else "worse"
            change = replace(change, verdict=better)
        judged.append(change)
    return judged
