"""Derive what is printed of profile records: throughput, latency, ratios and their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import stats
from bench.record import ProfileRecord
from bench.report.timings import timing_of


@dataclass(frozen=True)
class Comparison:
    """How many times the throughput of ``base`` a row has, timed in turns with it.

    ``floor`` is how far from 1 the same sitting puts the ratio of a row to itself.
    """

    ratio: stats.Interval
    floor: float | None
    base: ProfileRecord

    @property
    def differs(self) -> bool:
        """Tell whether the ratio is a difference rather than noise."""
        return stats.differs(self.ratio, self.floor)


def summary(record: ProfileRecord) -> dict[str, Any]:
    """Return one row's numbers as plain data, units in the names; None where there is none."""
    timing = timing_of([record])
    env, model = record.environment, record.model
    return {
        "id": record.id,
        "status": record.status,
        "reason": record.reason,
        "model": model.name,
        "stem": model.stem,
        "num_classes": model.num_classes,
        "image_size": model.image_size,
        "device": env.device,
        "device_name": env.device_name,
        "mode": record.mode,
        "scenario": record.scenario,
        "precision": record.precision,
        "runtime": record.runtime,
        "batch_size": record.batch_size,
        "params": record.cost.params,
        "macs": record.cost.macs,
        "flops": record.cost.flops,
        "throughput": timing.throughput if timing else None,
        "latency_ms_p50": timing.p50_ms if timing else None,
        "latency_ms_p90": timing.p90_ms if timing else None,
        "latency_ms_p99": timing.p99_ms if timing else None,
        "iqr_share": timing.iqr_share if timing else None,
        "num_samples": timing.num_blocks if timing else 0,
        "build_s": record.build_s,
        "first_call_s": record.timing.first_call_s if record.timing else None,
        "warmup_s": record.timing.warmup_s if record.timing else None,
        "parity_error": record.parity.error if record.parity else None,
        "flags": list(record.timing.flags) if record.timing else [],
        "warnings": list(record.warnings),
    }


def blocks(record: ProfileRecord) -> dict[int, list[float]]:
    """Return a timed record's seconds a call by the round in which they were measured."""
    timing = record.timing
    if timing is None:
        return {}
    return stats.by_round(timing.block_s, timing.block_iters, timing.block_round)


def sittings(records: Iterable[ProfileRecord]) -> list[list[ProfileRecord]]:
    """Return the timed records that took turns, one list a group of one sitting."""
    found: defaultdict[tuple[str, str], list[ProfileRecord]] = defaultdict(list)
    for record in records:
        if record.timing and record.timing.block_round:
            found[record.sitting, record.group].append(record)
    return list(found.values())


def base_of(group: Sequence[ProfileRecord]) -> ProfileRecord:
    """Return the row that the others of its group are compared with: the first model without SE."""
    plain = [record for record in group if record.model.reduction is None]
    return (plain or list(group))[0]


def compare(record: ProfileRecord, base: ProfileRecord) -> Comparison:
    """Return the ratio of throughputs of two rows that took turns."""
    ratio = stats.paired_ratio(blocks(base), blocks(record))
    return Comparison(ratio, stats.noise_floor([blocks(base), blocks(record)]), base)


def comparisons(records: Iterable[ProfileRecord]) -> dict[str, Comparison]:
    """Return, by record id, each row's ratio to the base of its group."""
    found = {}
    for group in sittings(records):
        base = base_of(group)
        for record in group:
            if record is not base:
                found[record.id] = compare(record, base)
    return found
