"""What a trained cell costs, on every axis that the records have data for.

Fronts, attributions, charts and the page all take their costs from here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bench.report import escape
from bench.report.derive.conditions import largest_alike, training_conditions
from bench.report.derive.headline import Headline, Machine, headlines, machine_of
from bench.report.derive.speed.profile_rows import memory_is_counted, starved
from bench.report.read.deployed import is_of_row
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.stats.times import Interval, geometric_interval


@dataclass(frozen=True)
class Axis:
    """One kind of cost under one set of conditions, and what each cell (by key) costs.

    The intervals hold for another sitting, or another training; they are open where nothing is
    known of one: after a single sitting, or one that other work starved. What such a cost decides
    has no chance.
    ``title`` names the conditions; ``name`` is safe in a file name. ``less_is_better`` is false
    for throughput alone. ``rows`` are the timed rows behind the values, where there are such, so
    that two of them can be compared as they were timed.
    """

    name: str
    title: str
    unit: str
    less_is_better: bool
    values: dict[str, Interval]
    rows: dict[str, CostRow] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return title and unit for an axis or a column."""
        return f"{self.title} ({self.unit})"


def cost_axes(study: Study, cells: Sequence[Cell]) -> list[Axis]:
    """Return the axes on which at least one of ``cells`` has a cost, speed first."""
    keys = {cell.key for cell in cells}
    lines = [line for line in headlines(study) if line.cell and line.cell.key in keys]
    return [*_speeds(lines, study.price_per_hour), *_counts(study, cells), *_training(cells)]


def accuracy_axes(study: Study, cells: Sequence[Cell]) -> list[Axis]:
    """Return the axes that may stand beside the cells' accuracies.

    Times of rows whose artefact is not the one that was tested are left out.
    """
    kept = (_of_what_was_tested(axis, cells) for axis in cost_axes(study, cells))
    return [axis for axis in kept if axis.values]


def _of_what_was_tested(axis: Axis, cells: Sequence[Cell]) -> Axis:
    others = {
        cell.key
        for cell in cells
        if cell.key in axis.rows and not is_of_row(cell, axis.rows[cell.key])
    }
    return replace(axis, values={k: v for k, v in axis.values.items() if k not in others})


def _speeds(lines: Sequence[Headline], price_per_hour: float | None) -> Iterator[Axis]:
    """Yield throughput, latency and what else was measured on each machine."""
    machines = sorted({machine_of(line.row) for line in lines if line.row})
    for machine in machines:
        here = [line for line in lines if line.row and machine_of(line.row) == machine]
        rates = largest_alike({ln.cell.key: ln.offline for ln in here if ln.cell and ln.offline})
        times = largest_alike({ln.cell.key: ln.single for ln in here if ln.cell and ln.single})
        suffix = _suffix(machine) if len(machines) > 1 else ""
        if rates:
            title = f"throughput, {_setting(next(iter(rates.values())))}"
            values = {key: throughput(row) for key, row in rates.items()}
            yield Axis(f"throughput{suffix}", title, "img/s", False, values, rates)
        if times:
            title = f"latency, {_setting(next(iter(times.values())))}"
            values = {key: latency_ms(row) for key, row in times.items()}
            yield Axis(f"latency{suffix}", title, "ms", True, values, times)
        yield from _resources(rates, suffix, price_per_hour)


def _resources(
    rows: dict[str, CostRow], suffix: str, price_per_hour: float | None
) -> Iterator[Axis]:
    """Yield memory, energy and money of the throughput rows, as far as they were measured."""
    if not rows:
        return
    setting = _setting(next(iter(rows.values())))
    memory = {k: found for k, row in rows.items() if (found := _memory(row))}
    energy = {k: found for k, row in rows.items() if (found := _energy(row))}
    if memory:
        yield Axis(f"memory{suffix}", f"peak memory, {setting}", "MiB", True, memory)
    if energy:
        yield Axis(f"energy{suffix}", f"energy of one image, {setting}", "mJ", True, energy)
    if price_per_hour:
        money = {key: _price(throughput(row), price_per_hour) for key, row in rows.items()}
        yield Axis(f"money{suffix}", f"price of a million images, {setting}", "money", True, money)


def _memory(row: CostRow) -> Interval | None:
    """Return the peak in MiB: exact where it was counted to the byte, else over sittings."""
    if row.peak_memory_bytes is None:
        return None
    peak = row.peak_memory_bytes / 2**20
    if memory_is_counted(row):
        return _exact(peak)
    facts = [p.record.memory for p in row.profiles]
    return _around(peak, [m.peak_bytes for m in facts if m and m.peak_bytes], row)


def _energy(row: CostRow) -> Interval | None:
    """Return the millijoules of an image, over sittings."""
    if row.joules_per_image is None:
        return None
    read = [p.record.energy for p in row.profiles]
    each = [e.joules / e.num_images for e in read if e and e.joules and e.num_images]
    return _around(1e3 * row.joules_per_image, each, row)


def _around(value: float, of_sittings: Sequence[float], row: CostRow) -> Interval:
    """Return a value with the relative interval of what several sittings found."""
    over = geometric_interval(of_sittings)
    scale = value / over.estimate
    around = Interval(value, scale * over.low, scale * over.high, over.num_samples)
    return _lasting(around, row, over.num_samples)


def _lasting(found: Interval, row: CostRow, sittings: int) -> Interval:
    """Return an interval with open ends where it does not hold for another sitting."""
    known = sittings > 1 and not starved(row)
    return found if known else Interval(found.estimate, 0.0, math.inf, 1)


def _price(rate: Interval, price_per_hour: float) -> Interval:
    """Return what a million images cost at a throughput in img/s."""
    scale = price_per_hour * 1e6 / 3600
    low, high = scale / rate.high, scale / rate.low if rate.low > 0 else math.inf
    return Interval(scale / rate.estimate, low, high, rate.num_samples)


def _suffix(machine: Machine) -> str:
    return f"-{escape.file_name('-'.join(machine[:2]))}"


def _setting(row: CostRow) -> str:
    record = row.first
    device = record.environment.device_name
    return f"{device}, {record.precision}, {record.runtime}, batch {record.batch_size}"


def throughput(row: CostRow) -> Interval:
    """Return a timed row's img/s."""
    assert row.timing is not None
    return _lasting(row.timing.rate, row, row.timing.num_processes)


def latency_ms(row: CostRow) -> Interval:
    """Return a timed row's milliseconds a call."""
    assert row.timing is not None
    call = _lasting(row.timing.call_s, row, row.timing.num_processes)
    return Interval(call.estimate * 1e3, call.low * 1e3, call.high * 1e3, call.num_samples)


def _counts(study: Study, cells: Sequence[Cell]) -> Iterator[Axis]:
    """Yield the costs that are counted, not timed."""
    profiled = {row.model: row.first.cost.macs for row in study.costs}
    macs = {cell.key: profiled.get(cell.model) or cell.macs for cell in cells}
    values = {key: _exact(number / 1e6) for key, number in macs.items() if number}
    if values:
        yield Axis("macs", "multiply-accumulates of one image", "millions", True, values)
    moved = {row.model: row.first.cost.bytes_moved() for row in study.costs}
    sizes = {cell.key: moved.get(cell.model) for cell in cells}
    known = {key: _exact(size / 2**20) for key, size in sizes.items() if size is not None}
    if known:
        yield Axis("bytes", "bytes moved by one image", "MiB", True, known)
    params = {cell.key: _exact(cell.runs[0].record.params / 1e6) for cell in cells}
    if params:
        yield Axis("params", "parameters", "millions", True, params)


def _exact(value: float) -> Interval:
    return Interval(value, value, value, 1)


def _training(cells: Sequence[Cell]) -> Iterator[Axis]:
    """Yield the seconds of training on each device that trained, of runs of like conditions."""
    devices: defaultdict[str, defaultdict[str, dict[str, Interval]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for cell in cells:
        totals = [sum(e.epoch_wall_s for e in run.record.epochs) for run in cell.runs]
        if all(totals):
            groups = devices[cell.environment.device_name]
            groups[repr(training_conditions(cell))][cell.key] = geometric_interval(totals)
    for device, groups in sorted(devices.items()):
        suffix = f"-{escape.file_name(device)}" if len(devices) > 1 else ""
        values = max(groups.values(), key=len)
        yield Axis(f"training-time{suffix}", f"training time on {device}", "s", True, values)
