"""Compare two sets of measurements row by row: faster, slower, same, not decided, not comparable.

A set is a folder of records or a JSON file of pytest-benchmark. Rows are matched by what was
measured; they are compared only if they were measured under equal conditions. A time is decided
only by several processes of either side that took turns: what was measured apart may be apart for
any reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.errors import UserError
from bench.report.derive.conditions import (
    CHANGES,
    Mismatch,
    accuracy_conditions,
    mismatches,
    speed_conditions,
)
from bench.report.derive.pairs import difference_of
from bench.report.derive.seeds import luck_of
from bench.report.derive.speed.profile_rows import doubts, worst
from bench.report.read.load import load
from bench.report.read.profiled import CostRow
from bench.report.read.pytest_json import Benchmark, benchmark_file, read_benchmarks
from bench.report.read.study import study
from bench.report.read.timings import timing_of
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats import accuracy
from bench.stats.accuracy import Difference
from bench.stats.decide import Finding, finding
from bench.stats.replicates import (
    Judged,
    Replicated,
    Turn,
    floor_of,
    in_pairs,
    judged,
    replicated,
    too_few,
)
from bench.stats.times import Interval

Verdict = Literal[
    "faster",
    "slower",
    "same",
    "better",
    "worse",
    "not resolved",
    "not decided",
    "changed",
    "not comparable",
    "gone",
    "new",
]
OF_TIMES: dict[Finding, Verdict] = {
    "more": "slower",
    "less": "faster",
    "same": "same",
    "not resolved": "not resolved",
}
OF_TOP1: dict[Finding, Verdict] = OF_TIMES | {"more": "better", "less": "worse"}
REGRESSIONS = ("slower", "worse")
# What a difference of code is about may differ between its two sides.
CODE = ("commit", CHANGES)
OUT_OF_TIME = "out of time"
BUSY = "the machine was too busy to decide"
APART = "measured apart, so nothing is decided; compare --measure lets both sides take turns"
# Ratios of times nearer to 1 than this are called the same where nothing else is asked for.
MARGIN = 0.05


@dataclass(frozen=True)
class Wanted:
    """What a comparison is to decide: margins within which a row is the same, as fractions.

    ``seed_sd`` is the stated sd over seeds, where the runs themselves have one seed each.
    """

    time_margin: float = MARGIN
    top1_margin: float | None = None
    seed_sd: float | None = None
    force: bool = False


NOTHING_WANTED = Wanted()


@dataclass(frozen=True)
class Change:
    """One row of both sets and what became of it.

    ``interval`` is the ratio of times new / base, or for ``kind`` accuracy the difference of
    top-1 as a fraction; ``base`` and ``new`` are the values that it comes from. ``doubts`` are what
    disturbed either measurement, ``floor`` how far from 1 the same sittings put equal work.
    """

    kind: Literal["time", "accuracy", "count"]
    what: str
    verdict: Verdict
    base: float | None
    new: float | None
    interval: Interval | None
    mismatches: tuple[Mismatch, ...] = ()
    note: str = ""
    doubts: tuple[str, ...] = ()
    floor: float | None = None

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

    Of files of pytest-benchmark in a folder, such as ``.benchmarks``, the newest counts. Raises
    UserError when there is none of these.
    """
    file = benchmark_file(place)
    timed = () if file is None else tuple(read_benchmarks(file))
    try:
        found = study(load([place]), keep_starved=True)
    except UserError:
        if not timed:
            raise
        return Measurements((), (), timed)
    return Measurements(found.cells, found.costs, timed)


def compare(base: Measurements, new: Measurements, wanted: Wanted = NOTHING_WANTED) -> list[Change]:
    """Return what changed from ``base`` to ``new``, times first.

    ``wanted.force`` compares also rows whose conditions differ; they keep their mismatches as a
    mark.
    """
    return [
        *_times(base.costs, new.costs, wanted),
        *_benchmarks(base.benchmarks, new.benchmarks),
        *_counts(base.costs, new.costs),
        *_accuracies(base.cells, new.cells, wanted),
    ]


def _model_name(model: ModelSpec) -> str:
    if model.se:
        return f"{model.title}, r={model.reduction}{'' if model.se.bias else ', no bias'}"
    return f"{model.title}, {model.attention}" if model.attention else model.title


def _cost_name(row: CostRow) -> str:
    record, model = row.first, row.model
    return (
        f"{_model_name(model)}, {model.image_size} px, {model.num_classes} classes: "
        f"{record.mode}, {record.scenario.replace('_', '-')}, {row.environment.device}, "
        f"{record.precision}, {record.runtime}, batch {record.batch_size}"
    )


def _by_name(rows: Iterable[CostRow]) -> dict[str, list[CostRow]]:
    """Return the timed rows by name: one for each environment that measured it, the last last."""
    found: defaultdict[str, list[CostRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.created_at, row.key)):
        if row.timing is not None:
            found[_cost_name(row)].append(row)
    return dict(found)


def _times(base: Sequence[CostRow], new: Sequence[CostRow], wanted: Wanted) -> list[Change]:
    before, after = _by_name(base), _by_name(new)
    changes = [_one_sided("time", name, before, after) for name in sorted(before.keys() ^ after)]
    measured = [
        _time(name, before[name][-1], after[name][-1], wanted)
        for name in sorted(before.keys() & after)
    ]
    ratios = [ratio for _, ratio in measured if ratio is not None]
    found = iter(judged(ratios, wanted.time_margin))
    changes += [change if r is None else _decided(change, next(found)) for change, r in measured]
    return sorted(changes, key=lambda change: change.what)


def _time(
    name: str, old: CostRow, row: CostRow, wanted: Wanted
) -> tuple[Change, Replicated | None]:
    """Return a row that is not decided yet, with the ratio over pairs of processes if there is."""
    found = mismatches(speed_conditions(old), speed_conditions(row), CODE)
    base, fed = old.fed, row.fed
    assert base.timing is not None
    assert fed.timing is not None
    values = (base.timing.call_s.estimate, fed.timing.call_s.estimate)
    told = worst([*doubts(base), *doubts(fed)])
    if found and not wanted.force:
        return Change("time", name, "not comparable", *values, None, found, doubts=told), None
    turns = [*_turns(old, is_new=False), *_turns(row, is_new=True)]
    pairs = in_pairs(turns)
    estimate = Interval(values[1] / values[0], 0.0, math.inf, 1)
    change = Change("time", name, "not decided", *values, estimate, found, APART, told)
    if pairs is None:
        return change, None
    hungry, floor = sum(turn.starved for turn in turns), floor_of(turns)
    note = f"{len(pairs)} pairs of processes in turn"
    note += f", without {hungry} of {len(turns)} that other work starved" if hungry else ""
    few = too_few(len(pairs), "pairs of processes in turn")
    if few or floor is None:
        return replace(change, note=f"{note}; {BUSY}" if hungry else few), None
    ratio = replicated([after / before for before, after in pairs])
    return replace(change, note=f"t over {note}", floor=floor), ratio


def _turns(row: CostRow, *, is_new: bool) -> list[Turn]:
    """Return each process's median time of a call, with when the process was."""
    found = []
    for profile in row.profiles:
        timing = timing_of([profile.record])
        if timing is not None:
            at = profile.record.environment.started_at
            found.append(Turn(at, is_new, timing.call_s.estimate, profile.starved))
    return found


def _decided(change: Change, found: Judged) -> Change:
    """Return a row with its interval and verdict."""
    assert change.floor is not None
    beyond = abs(found.ratio.log) > math.log1p(change.floor)
    told = finding(found.ratio.log, found.p if beyond else None, found.p_same)
    return replace(change, interval=found.ratio.interval, verdict=OF_TIMES[told])


def _one_sided(
    kind: Literal["time", "accuracy"], name: str, before: object, after: object
) -> Change:
    assert isinstance(before, dict)
    return Change(kind, name, "gone" if name in before else "new", None, None, None)


def _benchmarks(base: Sequence[Benchmark], new: Sequence[Benchmark]) -> list[Change]:
    """Return the benchmarks of two files, one process each: their ratios decide nothing."""
    before, after = ({b.name: b for b in side} for side in (base, new))
    changes = [_one_sided("time", name, before, after) for name in sorted(before.keys() ^ after)]
    for name in sorted(before.keys() & after):
        old, row = before[name], after[name]
        found = mismatches(old.conditions, row.conditions)
        if not (old.conditions and row.conditions):  # two machines that nobody knows are not one
            found = (Mismatch("machine", old.machine, row.machine),)
        values = (old.seconds.estimate, row.seconds.estimate)
        ratio = Interval(values[1] / values[0], 0.0, math.inf, 1)
        verdict: Verdict = "not comparable" if found else "not decided"
        told = None if found else ratio
        changes.append(Change("time", name, verdict, *values, told, found, APART))
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
    trained = f"{recipe.name}, {recipe.epochs} epochs, {cell.runs[0].record.spec.precision}"
    return f"top-1 of {_model_name(model)} on {cell.dataset} ({trained})"


def _accuracies(base: Sequence[Cell], new: Sequence[Cell], wanted: Wanted) -> list[Change]:
    before = {_cell_name(cell): cell for cell in base if cell.top1}
    after = {_cell_name(cell): cell for cell in new if cell.top1}
    changes = [_one_sided("accuracy", n, before, after) for n in sorted(before.keys() ^ after)]
    luck = luck_of([*base, *new], wanted.seed_sd)
    compared: list[tuple[Change, Difference]] = []
    for name in sorted(before.keys() & after):
        old, cell = before[name], after[name]
        found = mismatches(accuracy_conditions(old), accuracy_conditions(cell), CODE)
        assert old.top1 is not None
        assert cell.top1 is not None
        values = (old.top1.value, cell.top1.value)
        fair = (wanted.force or not found) and old.digest == cell.digest
        measured = difference_of(old, cell, luck.of([old, cell])) if fair else None
        if measured is None:
            changes.append(Change("accuracy", name, "not comparable", *values, None, found))
            continue
        verdict: Verdict = "not decided" if measured.p is None else "not resolved"
        row = Change("accuracy", name, verdict, *values, measured.interval, found, measured.method)
        compared.append((row, measured))
    return changes + _judged(compared, wanted.top1_margin)


def _judged(compared: Sequence[tuple[Change, Difference]], margin: float | None) -> list[Change]:
    """Return the accuracy rows with a verdict each, corrected for their number."""
    tests = accuracy.corrected([measured for _, measured in compared], margin)
    return [
        change
        if p is None
        else replace(change, verdict=OF_TOP1[finding(d.interval.estimate, p, same)])
        for (change, d), (p, same) in zip(compared, tests, strict=True)
    ]
