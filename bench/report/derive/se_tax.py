"""What SE costs: every SE model beside its plain twin, quantity by quantity, as ratios."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.record.cost import CostFacts
from bench.record.profile import ALLOCATOR_PEAK
from bench.report.derive.ratios import Ratio, time_ratio
from bench.report.read.models import has_se
from bench.report.read.profiled import CostRow
from bench.spec.run import ModelSpec
from bench.stats.times import Interval, geometric_interval


@dataclass(frozen=True)
class Tax:
    """One quantity of an SE model and of its twin, the ratio, and whether that is a difference.

    ``ratio`` has its 95 % interval where it was measured; counts are exact.
    """

    quantity: str
    setting: str
    unit: str
    plain: float
    se: float
    ratio: Interval
    differs: bool


Counted = Callable[[CostFacts], float | None]
COUNTS: dict[str, tuple[str, Counted]] = {
    "parameters": ("M", lambda cost: cost.params / 1e6),
    "MACs": ("M", lambda cost: cost.macs / 1e6),
    "operators launched": ("", lambda cost: cost.operators),
}


def twins(rows: Iterable[CostRow]) -> list[tuple[ModelSpec, ModelSpec]]:
    """Return each SE model with the plain model that is the same but for SE, where both are."""
    models = list(dict.fromkeys(row.model for row in rows))
    found = []
    for model in models:
        if not (has_se(model) and model.name.startswith("se_")):
            continue
        name = model.name.removeprefix("se_")
        twin = model.model_copy(update={"name": name, "attention": None})
        if twin in models:
            found.append((model, twin))
    return found


def taxes(rows: Sequence[CostRow], model: ModelSpec, twin: ModelSpec) -> list[Tax]:
    """Return what SE adds to ``twin``: counts first, then what was measured of both."""
    mine = {_setting_key(row): row for row in rows if row.model == model}
    others = {_setting_key(row): row for row in rows if row.model == twin}
    pairs = [(mine[key], others[key]) for key in mine if key in others]
    if not pairs:
        return []
    return [*_counted(*pairs[0]), *_bytes(pairs), *_measured(pairs), *_memory(pairs)]


@dataclass(frozen=True)
class RuntimeCost:
    """What SE costs in one runtime: milliseconds of a call without and with it, and the ratio."""

    runtime: str
    plain_ms: float
    se_ms: float
    ratio: Ratio


@dataclass(frozen=True)
class ScenarioCost:
    """What SE costs in one scenario: in eager, and in the runtime that is fastest without SE."""

    model: ModelSpec
    twin: ModelSpec
    row: CostRow
    runtimes: tuple[RuntimeCost, ...]


def scenario_costs(rows: Sequence[CostRow]) -> list[ScenarioCost]:
    """Return what SE costs in single images and in batches, where inference was timed.

    Of the pair of twins, the machine and the batch size that were measured in most runtimes.
    """
    found: dict[str, ScenarioCost] = {}
    for model, twin in twins(rows):
        others = {_setting_key(row): row for row in rows if row.model == twin}
        groups: defaultdict[str, list[tuple[CostRow, CostRow]]] = defaultdict(list)
        for row in rows:
            if row.model == model and row.first.mode == "infer" and _setting_key(row) in others:
                record, env = row.first, row.environment
                place = (env.device_name, env.host, record.precision, record.batch_size)
                groups[repr((record.scenario, place))].append((row, others[_setting_key(row)]))
        for _, pairs in sorted(groups.items()):
            cost, scenario = _scenario(model, twin, pairs), pairs[0][0].first.scenario
            if cost and (scenario not in found or _told(cost) > _told(found[scenario])):
                found[scenario] = cost
    return [found[name] for name in ("single_stream", "offline") if name in found]


def _told(cost: ScenarioCost) -> tuple[int, int]:
    return len(cost.runtimes), cost.row.first.batch_size


def _scenario(
    model: ModelSpec, twin: ModelSpec, pairs: Sequence[tuple[CostRow, CostRow]]
) -> ScenarioCost | None:
    costs = {}
    for row, base in pairs:
        ratio = time_ratio(row, base)
        if ratio is not None and row.timing is not None and base.timing is not None:
            times = (base.timing.p50_ms, row.timing.p50_ms)
            costs[row.first.runtime] = RuntimeCost(row.first.runtime, *times, ratio)
    if not costs:
        return None
    fastest = min(costs.values(), key=lambda cost: cost.plain_ms)
    wanted = dict.fromkeys(["eager" if "eager" in costs else fastest.runtime, fastest.runtime])
    return ScenarioCost(model, twin, pairs[0][0], tuple(costs[name] for name in wanted))


def _setting_key(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.first.environment
    return (env.device, env.freed_memory, record.mode, record.scenario,
            record.precision, record.runtime, record.batch_size)  # fmt: skip


def _counted(row: CostRow, base: CostRow) -> Iterator[Tax]:
    for quantity, (unit, count) in COUNTS.items():
        se, plain = count(row.first.cost), count(base.first.cost)
        if se and plain:
            yield Tax(quantity, "one image", unit, plain, se, _exact(se / plain), True)


def _exact(ratio: float) -> Interval:
    return Interval(ratio, ratio, ratio, 1)


def _bytes(pairs: Sequence[tuple[CostRow, CostRow]]) -> Iterator[Tax]:
    """Yield the bytes that one call moves, for each batch size."""
    seen = set()
    for row, base in pairs:
        batch = row.first.batch_size
        se, plain = row.first.cost.bytes_moved(batch), base.first.cost.bytes_moved(batch)
        if se and plain and batch not in seen:
            seen.add(batch)
            setting = f"batch {batch}, nothing fused"
            yield Tax("bytes moved", setting, "MB", plain / 1e6, se / 1e6, _exact(se / plain), True)


def _measured(pairs: Sequence[tuple[CostRow, CostRow]]) -> Iterator[Tax]:
    """Yield throughputs, latencies and times of a training step as ratios."""
    for row, base in pairs:
        ratio = time_ratio(row, base)
        if row.first.scenario not in ("offline", "single_stream"):
            continue
        if ratio is None or row.timing is None or base.timing is None:
            continue
        record, found = row.first, ratio.interval
        setting = f"batch {record.batch_size}, {record.precision}, {record.runtime}"
        if record.mode == "infer" and record.scenario == "offline":
            rates = (base.timing.throughput, row.timing.throughput)
            yield Tax("throughput", setting, "img/s", *rates, _inverse(found), ratio.differs)
        else:
            quantity = "latency" if record.mode == "infer" else "time of a training step"
            times = (base.timing.p50_ms, row.timing.p50_ms)
            yield Tax(quantity, setting, "ms", *times, found, ratio.differs)


def _inverse(ratio: Interval) -> Interval:
    low, high = 1 / ratio.high, 1 / ratio.low if ratio.low > 0 else math.inf
    return Interval(1 / ratio.estimate, low, high, ratio.num_samples)


def _memory(pairs: Sequence[tuple[CostRow, CostRow]]) -> Iterator[Tax]:
    """Yield the ratios of peak memory; one reading of pages is no difference."""
    for row, base in pairs:
        mine, others = _peaks(row), _peaks(base)
        shared = sorted(mine.keys() & others.keys())
        if not shared or row.first.scenario != "offline":
            continue
        record = row.first
        setting = f"{record.mode}, batch {record.batch_size}, {record.precision}, {record.runtime}"
        ratios = [mine[sitting] / others[sitting] for sitting in shared]
        is_exact = len(shared) == 1 and _is_counted(row)
        ratio = _exact(*ratios) if is_exact else geometric_interval(ratios)
        values = (median(peaks[sitting] for sitting in shared) for peaks in (others, mine))
        plain, se = (value / 2**20 for value in values)
        differs = not ratio.contains(1.0)
        yield Tax("peak memory", setting, "MiB", plain, se, ratio, differs)


def _peaks(row: CostRow) -> dict[str, int]:
    """Return the peak bytes of each sitting in which they were measured."""
    records = [profile.record for profile in row.profiles]
    return {r.sitting: r.memory.peak_bytes for r in records if r.memory and r.memory.peak_bytes}


def _is_counted(row: CostRow) -> bool:
    """Tell whether memory was counted to the byte: other ways differ from process to process."""
    memory = row.first.memory
    return memory is not None and memory.method == ALLOCATOR_PEAK
