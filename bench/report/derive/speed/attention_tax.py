"""What attention costs: each model that has any beside its plain twin, as ratios."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.record.cost import CostFacts
from bench.report.derive.headline import machine_of
from bench.report.derive.speed.profile_rows import memory_is_counted
from bench.report.derive.speed.ratios import Ratio, corrected, time_ratio
from bench.report.read.models import model_order, plain_twin
from bench.report.read.profiled import CostRow
from bench.spec.run import ModelSpec
from bench.stats.times import FEWEST, Interval, geometric_interval


@dataclass(frozen=True)
class Tax:
    """One quantity of a model with attention and of its twin, and whether they differ.

    ``ratio`` has its 95 % interval where it was measured; counts are exact.
    """

    quantity: str
    setting: str
    unit: str
    plain: float
    full: float
    ratio: Interval
    differs: bool
    decides: bool = True  # not of what was measured in too few sittings


# What a ratio of each measured quantity says of time.
TIMED = {
    "throughput": "inference of an image",
    "time of a training step": "training step",
    "latency": "inference of one image",
}
Counted = Callable[[CostFacts], float | None]
COUNTS: dict[str, tuple[str, Counted]] = {
    "parameters": ("M", lambda cost: cost.params / 1e6),
    "MACs": ("M", lambda cost: cost.macs / 1e6),
    "operators launched": ("", lambda cost: cost.operators),
}


def twins(rows: Iterable[CostRow]) -> list[tuple[ModelSpec, ModelSpec]]:
    """Return each model with attention and the model that is the same without, where both are."""
    models = {row.model for row in rows}
    return [
        (model, twin)
        for model in sorted(models, key=model_order)
        if (twin := plain_twin(model)) is not None and twin in models
    ]


def taxes(rows: Sequence[CostRow], model: ModelSpec, twin: ModelSpec) -> list[Tax]:
    """Return what attention adds to ``twin``: counts, then what was measured of both."""
    return _all(_pairs(rows, model, twin))


def _pairs(
    rows: Sequence[CostRow], model: ModelSpec, twin: ModelSpec
) -> list[tuple[CostRow, CostRow]]:
    """Return the rows of both models that are alike in everything else."""
    mine = {_setting_key(row): row for row in rows if row.model == model}
    others = {_setting_key(row): row for row in rows if row.model == twin}
    return [(mine[key], others[key]) for key in mine if key in others]


def _all(pairs: Sequence[tuple[CostRow, CostRow]]) -> list[Tax]:
    if not pairs:
        return []
    return [*_counted(*pairs[0]), *_bytes(pairs), *_measured(pairs), *_memory(pairs)]


@dataclass(frozen=True)
class TaxLine:
    """What the attention of one model costs, each quantity in the setting that tells most."""

    model: ModelSpec
    twin: ModelSpec
    taxes: dict[str, Tax]
    row: CostRow

    def times(self) -> dict[str, Interval]:
        """Return the ratios of times: of an image in a batch, of one alone, of a training step."""
        found = {tax: self.taxes[tax] for tax in TIMED if tax in self.taxes}
        return {
            f"{TIMED[name]}, {tax.setting}": _inverse(tax.ratio)
            if tax.unit == "img/s"
            else tax.ratio
            for name, tax in found.items()
        }


def tax_lines(rows: Sequence[CostRow]) -> list[TaxLine]:
    """Return one line for each model with attention and each machine, plain twin beside it."""
    places = dict.fromkeys((machine_of(row), row.environment.freed_memory) for row in rows)
    lines = []
    for place in places:
        here = [r for r in rows if (machine_of(r), r.environment.freed_memory) == place]
        for model, twin in twins(here):
            pairs = _telling(_pairs(here, model, twin))
            if pairs:
                found = {tax.quantity: tax for tax in _all(pairs)}
                lines.append(TaxLine(model, twin, found, pairs[0][0]))
    return lines


def _telling(pairs: Sequence[tuple[CostRow, CostRow]]) -> list[tuple[CostRow, CostRow]]:
    """Return of each kind of measurement one pair: eager, fp32, and the largest batch."""
    chosen: dict[tuple[str, str], tuple[CostRow, CostRow]] = {}
    for pair in sorted(pairs, key=lambda pair: _plainness(pair[0])):
        record = pair[0].first
        if pair[0].timing is not None and pair[1].timing is not None:
            chosen.setdefault((record.mode, record.scenario), pair)
    order = {("infer", "single_stream"): 0, ("infer", "offline"): 1}
    return [pair for _, pair in sorted(chosen.items(), key=lambda item: order.get(item[0], 2))]


def _plainness(row: CostRow) -> tuple[object, ...]:
    record = row.first
    return (record.runtime != "eager", record.precision != "fp32", record.runtime,
            record.precision, -record.batch_size)  # fmt: skip


@dataclass(frozen=True)
class RuntimeCost:
    """What attention costs in one runtime: the row with it, that without, and their ratio."""

    row: CostRow
    base: CostRow
    ratio: Ratio

    @property
    def runtime(self) -> str:
        return self.row.first.runtime

    @property
    def times_ms(self) -> tuple[float, float]:
        """Return the median milliseconds of a call without and with attention."""
        base, row = self.base.timing, self.row.timing
        return (base.p50_ms if base else math.nan, row.p50_ms if row else math.nan)


@dataclass(frozen=True)
class ScenarioCost:
    """What attention costs in one scenario: in eager, and in the runtime fastest without it."""

    model: ModelSpec
    twin: ModelSpec
    row: CostRow
    runtimes: tuple[RuntimeCost, ...]


def scenario_costs(rows: Sequence[CostRow]) -> list[ScenarioCost]:
    """Return what attention costs in single images and in batches, where inference was timed.

    Of the pair of twins, the machine and the batch size that decide most, in most runtimes.
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


def _told(cost: ScenarioCost) -> tuple[int, int, int]:
    decided = sum(one.ratio.replicated is not None for one in cost.runtimes)
    return decided, len(cost.runtimes), cost.row.first.batch_size


def _scenario(
    model: ModelSpec, twin: ModelSpec, pairs: Sequence[tuple[CostRow, CostRow]]
) -> ScenarioCost | None:
    costs = {}
    for row, base in pairs:
        ratio = time_ratio(row, base)
        if ratio is not None:
            costs[row.first.runtime] = RuntimeCost(row, base, ratio)
    if not costs:
        return None
    fastest = min(costs.values(), key=lambda cost: cost.times_ms)
    wanted = dict.fromkeys(["eager" if "eager" in costs else fastest.runtime, fastest.runtime])
    return ScenarioCost(model, twin, pairs[0][0], tuple(costs[name] for name in wanted))


def _setting_key(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.first.environment
    return (env.device, env.freed_memory, record.mode, record.scenario,
            record.precision, record.runtime, record.batch_size)  # fmt: skip


def _counted(row: CostRow, base: CostRow) -> Iterator[Tax]:
    for quantity, (unit, count) in COUNTS.items():
        full, plain = count(row.first.cost), count(base.first.cost)
        if full and plain:
            ratio = _exact(full / plain)
            yield Tax(quantity, "one image", unit, plain, full, ratio, full != plain)


def _exact(ratio: float) -> Interval:
    return Interval(ratio, ratio, ratio, 1)


def _bytes(pairs: Sequence[tuple[CostRow, CostRow]]) -> Iterator[Tax]:
    """Yield the bytes that one call moves, for each batch size."""
    seen = set()
    for row, base in pairs:
        batch = row.first.batch_size
        full, plain = row.first.cost.bytes_moved(batch), base.first.cost.bytes_moved(batch)
        if full and plain and batch not in seen:
            seen.add(batch)
            setting, ratio = f"batch {batch}, nothing fused", _exact(full / plain)
            yield Tax("bytes moved", setting, "MB", plain / 1e6, full / 1e6, ratio, full != plain)


def _measured(pairs: Sequence[tuple[CostRow, CostRow]]) -> Iterator[Tax]:
    """Yield throughputs, latencies and times of a training step as ratios, judged together."""
    kept = [pair for pair in pairs if pair[0].first.scenario in ("offline", "single_stream")]
    told = [(row, base, ratio) for row, base in kept if (ratio := time_ratio(row, base))]
    family = corrected([ratio for _, _, ratio in told])
    for (row, base, _), ratio in zip(told, family, strict=True):
        assert row.timing is not None
        assert base.timing is not None
        record, found = row.first, ratio.interval
        setting = f"batch {record.batch_size}, {record.precision}, {record.runtime}"
        judged = ratio.differs, ratio.replicated is not None
        if record.mode == "infer" and record.scenario == "offline":
            rates = (base.timing.throughput, row.timing.throughput)
            yield Tax("throughput", setting, "img/s", *rates, _inverse(found), *judged)
        else:
            quantity = "latency" if record.mode == "infer" else "time of a training step"
            times = (base.timing.p50_ms, row.timing.p50_ms)
            yield Tax(quantity, setting, "ms", *times, found, *judged)


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
        is_exact = len(shared) == 1 and memory_is_counted(row)
        ratio = _exact(*ratios) if is_exact else geometric_interval(ratios)
        values = (median(peaks[sitting] for sitting in shared) for peaks in (others, mine))
        plain, full = (value / 2**20 for value in values)
        differs = not ratio.contains(1.0)
        decides = is_exact or len(shared) >= FEWEST
        yield Tax("peak memory", setting, "MiB", plain, full, ratio, differs, decides)


def _peaks(row: CostRow) -> dict[str, int]:
    """Return the peak bytes of each sitting in which they were measured."""
    records = [profile.record for profile in row.profiles]
    return {r.sitting: r.memory.peak_bytes for r in records if r.memory and r.memory.peak_bytes}
