"""Derive what is printed of profile records: throughput, latency, use of the machine, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from bench.record.profile import ALLOCATOR_PEAK, ProfileRecord
from bench.report.read.load import Loaded, LoadedProfile
from bench.report.read.profiled import CostRow
from bench.report.read.study import study
from bench.stats import times


def cost_rows(
    records: Sequence[ProfileRecord], price_per_hour: float | None = None
) -> list[CostRow]:
    """Return the records as rows in their order, those that repeat each other in one row."""
    loaded = tuple(LoadedProfile(record, "") for record in records)
    order = {record.id: place for place, record in enumerate(records)}
    rows = study(Loaded((), loaded, (), ()), price_per_hour).costs
    return sorted(rows, key=lambda row: min(order[p.record.id] for p in row.profiles))


def blocks(record: ProfileRecord) -> dict[int, list[float]]:
    """Return a timed record's seconds a call by the round in which they were measured, if any."""
    timing = record.timing
    if timing is None or not timing.block_round:
        return {}
    return times.by_round(timing.block_s, timing.block_iters, timing.block_round)


def intensity(row: CostRow) -> float | None:
    """Return FLOP a byte: of one call, every operator reading and writing memory once."""
    moved = row.first.cost.bytes_moved(row.first.batch_size)
    return row.first.cost.flops * row.first.batch_size / moved if moved else None


def launch_bound(row: CostRow) -> bool | None:
    """Tell whether a call takes much longer than its work on the device; None if unknown."""
    device_s = [s for p in row.profiles if p.record.timing for s in p.record.timing.device_s or ()]
    if not device_s or row.timing is None:
        return None
    return row.timing.call_s.estimate > 1.25 * median(device_s)


def compile_s(row: CostRow) -> float | None:
    """Return what the first call took beyond a later one, where it compiled; else None."""
    facts, timing = row.first.timing, row.timing
    if facts is None or timing is None or not row.first.runtime.startswith("compile"):
        return None
    return max(0.0, facts.first_call_s - timing.call_s.estimate)


def split_ms(row: CostRow) -> tuple[float, float, float] | None:
    """Return the median milliseconds of forward, backward and update of a training step."""
    splits = [p.record.split for p in row.profiles if p.record.split]
    if not splits:
        return None
    forward, backward, update = (
        1e3 * median(s for split in splits for s in getattr(split, part))
        for part in ("forward_s", "backward_s", "update_s")
    )
    return forward, backward, update


def noise_words(row: CostRow) -> tuple[str, ...]:
    """Return what disturbed the row's measurement, each thing once."""
    return tuple(dict.fromkeys(w for p in row.profiles for w in p.record.warnings))


def doubts(row: CostRow) -> tuple[str, ...]:
    """Return everything that makes a row's times doubtful: disturbances, then flags in words."""
    flags = row.timing.flags if row.timing else ()
    return (*noise_words(row), *(flag.replace("_", " ") for flag in flags))


def worst(told: Iterable[str]) -> tuple[str, ...]:
    """Return each kind of doubt once, that with the largest number."""
    kinds: dict[str, tuple[int, str]] = {}
    for text in told:
        number = int("0" + "".join(c for c in text if c.isdigit())[:6])
        kind = "".join(c for c in text if not c.isdigit())
        kinds[kind] = max(kinds.get(kind, (-1, "")), (number, text))
    return tuple(text for _, text in kinds.values())


def starved(row: CostRow) -> bool:
    """Tell whether other work had so much of the machine that nothing follows from the row."""
    return any(profile.starved for profile in row.profiles)


def memory_is_counted(row: CostRow) -> bool:
    """Tell whether memory was counted to the byte: other ways differ from process to process."""
    memory = row.first.memory
    return memory is not None and memory.method == ALLOCATOR_PEAK


def seconds_spent(records: Iterable[ProfileRecord], total_s: float) -> dict[str, float]:
    """Return how much of ``total_s`` seconds was timed, warm-up, and neither of the two."""
    all_records = list(records)
    timings = [record.timing for record in all_records if record.timing]
    timed = math.fsum(max(s, 0.0) for timing in timings for s in timing.block_s)
    timed += math.fsum(map(_examined_s, all_records))
    machines = {record.sitting: record.machine for record in all_records if record.machine}
    timed += math.fsum(machine.timed_s for machine in machines.values())
    # Throughput and latency of single images are two records of what was called first once.
    first = {(r.sitting, r.timing.first_call_s) for r in all_records if r.timing}
    warmup = math.fsum(timing.warmup_s for timing in timings) + math.fsum(s for _, s in first)
    outside = max(0.0, total_s - timed - warmup)
    return {"total": total_s, "timed": timed, "warmup": warmup, "outside": outside}


def _examined_s(record: ProfileRecord) -> float:
    """Return the seconds of a row's work that was measured beside its blocks."""
    found = record.breakdown.timed_s if record.breakdown else 0.0
    if record.split:
        parts = (record.split.forward_s, record.split.backward_s, record.split.update_s)
        found += math.fsum(map(math.fsum, parts))
    if record.energy and record.energy.window_s:
        found += record.energy.window_s
    return found


def strict(value: Any) -> Any:
    """Return plain data with None for what JSON has no number for, such as an open bound."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: strict(item) for key, item in value.items()}
        case list() | tuple():
            return [strict(item) for item in value]
        case _:
            return value
