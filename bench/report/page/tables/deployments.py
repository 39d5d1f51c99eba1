"""The report's part on deployments: what precision and runtime do, and which to take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from bench.report.derive import deployments as derive
from bench.report.derive.deployments import DeploymentFront, GateLoss
from bench.report.derive.seeds import UNKNOWN, SeedLuck
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph, Table, table
from bench.report.page.formats import (
    GUESSES,
    MISSING,
    chance,
    number,
    p_value,
    percent,
    point_interval,
    points,
    span,
)
from bench.report.page.sections import covers
from bench.report.page.wording import basis, spread
from bench.report.read.deployed import Deployment, adjusted_p, deployments
from bench.report.read.models import kind_title
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study

COLUMNS = (
    "precision",
    "runtime",
    "batch",
    "top-1 % (95 % CI: images)",
    "points from eager fp32 (95 % CI: images)",
    "p",
    "changed",
    "logits off by",
    "img/s",
    "ms",
    "MB on disk",
    "int8 operators",
)
NOTE = (
    "Each row was classified by the very session that was timed: the whole test set. The difference"
    " to eager fp32 is paired on the same images; p is McNemar's, exact, corrected by Holm over"
    " these tables. Changed counts the images whose likeliest class is another than eager fp32's."
)


def deployment_tables(study: Study, luck: SeedLuck = UNKNOWN) -> list[Block]:
    """Return one table a model, the fronts of deployments, and what SE's gate costs in them."""
    found = [one for one in deployments(study.costs) if not _is_latency(one)]
    if not found:
        return []
    adjusted = adjusted_p(found)
    groups: defaultdict[tuple[str, str], list[Deployment]] = defaultdict(list)
    for one in found:
        named = f"{one.model.title}, {one.model.image_size} px{_seed(one)}"
        groups[named, one.accuracy.dataset].append(one)
    singles = _latencies(study.costs)
    parts: list[Block] = []
    for (model, dataset), ones in groups.items():
        parts += [Heading(f"{model}: {dataset}", 3), _table(ones, adjusted, singles)]
    losses = derive.gate_losses([one.row for one in found], luck)
    return [
        Heading("What precision and runtime do"),
        Paragraph(NOTE),
        *parts,
        *_gate(losses),
        *_fronts(derive.deployment_fronts(study.costs)),
    ]


def _is_latency(one: Deployment) -> bool:
    return one.row.first.scenario == "single_stream"


def _latencies(rows: Sequence[CostRow]) -> dict[object, CostRow]:
    """Return the single-stream rows by what they share with the throughput rows beside them."""
    return {_place(row): row for row in rows if row.first.scenario == "single_stream"}


def _place(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.environment
    where = (env.host, env.device_name, env.packages.get("torch"), env.commit, record.run_id)
    return (record.model, record.precision, record.runtime, record.batch_size, *where)


def _table(
    ones: Sequence[Deployment], adjusted: dict[str, float], singles: dict[object, CostRow]
) -> Table:
    return table(COLUMNS, [_line(one, adjusted, singles.get(_place(one.row))) for one in ones])


def _line(one: Deployment, adjusted: dict[str, float], single: CostRow | None) -> list[str]:
    record, own = one.row.first, one.accuracy
    timing = one.row.timing
    call = single.timing if single and single.timing else timing
    made = record.quantization
    return [
        record.precision,
        record.runtime,
        str(record.batch_size),
        percent(one.top1) + ("" if one.has_learnt else GUESSES),
        "reference" if one.is_reference else point_interval(one.difference.interval),
        p_value(adjusted.get(one.key)),
        f"{own.changed:,} of {own.num_images:,}",
        f"{own.logit_error:.2g}",
        number(timing.throughput) if timing else record.status,
        number(call.p50_ms) if call else MISSING,
        number(record.weight_bytes / 1e6) if record.weight_bytes else MISSING,
        f"{made.int8_operators} of {made.operators}" if made else MISSING,
    ]


def gate_sentence(loss: GateLoss) -> str:
    """Return whether the attention's gate is what a precision costs, in one sentence."""
    se, plain = (
        f"{one.model.name} {points(one.difference.interval.estimate, sign=True)} points"
        f" ({points(one.difference.interval.low)} to {points(one.difference.interval.high)})"
        for one in (loss.se, loss.plain)
    )
    own, luck = kind_title(loss.model), loss.extra.luck
    match loss.finding:
        case "less":
            verdict = f"{own}'s gate is part of what {loss.precision} costs"
        case "more":
            verdict = f"{loss.precision} costs the plain one more"
        case _:
            verdict = f"that {own}'s gate is what {loss.precision} costs is not shown"
    told = [f"{se}, {plain}", f"{spread(loss.extra.interval)} more: {verdict}"]
    told += [] if luck is None else [f"p {p_value(loss.p_family)} after correction"]
    return "; ".join([*told, *basis(loss.extra)])


def _gate(losses: Sequence[GateLoss]) -> list[Block]:
    if not losses:
        return []
    items = tuple(
        (
            f"{loss.precision} in {loss.runtime}, batch {loss.batch_size}{_seed(loss.se)}:",
            gate_sentence(loss) + ".",
        )
        for loss in losses
    )
    return [Heading("Is the gate of an attention what a precision costs?", 3), Bullets(items)]


def _seed(one: Deployment) -> str:
    return "" if one.seed is None else f", seed {one.seed}"


def _fronts(fronts: Sequence[DeploymentFront]) -> list[Block]:
    parts: list[Block] = []
    for front in fronts:
        parts += [
            Heading(f"Which deployment to take, {front.dataset}: {front.axis.title}", 3),
            _front_table(front),
            Bullets(tuple((f"{_budget(front, c.budget)}:", _choice(c)) for c in front.choices)),
        ]
        if front.withheld:
            parts.append(Paragraph(f"No probabilities: {front.withheld}."))
    return parts


def _front_table(front: DeploymentFront) -> Table:
    columns = (
        "deployment",
        front.axis.unit + covers(front.axis, front.axis.values.values()),
        "top-1 % (95 % CI: images)",
        "on the front",
        "probability",
    )
    shown = [p for p in front.points if p.on_front or (p.probability or 0.0) >= 0.05]
    lines = [
        [
            point.deployment.label,
            span(front.axis.values[point.deployment.key]),
            percent(point.deployment.top1),
            "yes" if point.on_front else "no",
            chance(point.probability),
        ]
        for point in shown
    ]
    return table(columns, lines)


def _budget(front: DeploymentFront, budget: float) -> str:
    bound = "up to" if front.axis.less_is_better else "at"
    more = "" if front.axis.less_is_better else " or more"
    return f"{bound} {budget:,g} {front.axis.unit}{more}"


def _choice(choice: derive.DeploymentChoice) -> str:
    told = f"{choice.deployment.label} with {percent(choice.deployment.top1, ends=False)} %"
    if choice.probability is None:
        return f"{told}."
    return f"{told} (best within it in {chance(choice.probability)} of the draws of images)."


def accuracy_tables(rows: Sequence[CostRow]) -> list[Table]:
    """Return what each session that was timed gets right, beside eager fp32; nothing without."""
    found = [one for one in deployments(rows) if not _is_latency(one)]
    if not found:
        return []
    own, adjusted = found[0].accuracy, adjusted_p(found)
    columns = ("batch", "top-1 %", "points from fp32", "p", "changed", "MB", "int8")
    return [
        table(
            (*NAMES, *columns),
            [_short_line(one, adjusted) for one in found],
            title=f"Accuracy of what was timed: {own.dataset}, {own.num_images:,} images",
            words=NAMES,
        )
    ]


def _short_line(one: Deployment, adjusted: dict[str, float]) -> list[str]:
    record, made = one.row.first, one.row.first.quantization
    return [
        *_names_of(one.row),
        str(record.batch_size),
        percent(one.top1, ends=False),
        "reference" if one.is_reference else point_interval(one.difference.interval),
        p_value(adjusted.get(one.key)),
        f"{one.accuracy.changed:,}",
        number(record.weight_bytes / 1e6 if record.weight_bytes else None),
        f"{made.int8_operators}/{made.operators}" if made else MISSING,
    ]


NAMES = ("model", "precision", "runtime")


def scenario_tables(rows: Sequence[CostRow]) -> list[Table]:
    """Return where the time goes end to end, and how the rows serve; nothing without either."""
    found = [_end_to_end(rows), _served(rows)]
    return [drawn for drawn in found if drawn is not None]


def scenario_blocks(rows: Sequence[CostRow]) -> list[Block]:
    """Return the same as a part of the report."""
    parts: list[Block] = []
    for drawn in scenario_tables(rows):
        parts += [Heading(drawn.title, 3), replace(drawn, title="")]
    return [Heading("From files to classes, and as a server"), *parts] if parts else []


def _names_of(row: CostRow) -> list[str]:
    return [row.first.model.name, row.first.precision, row.first.runtime]


def _end_to_end(rows: Sequence[CostRow]) -> Table | None:
    """Return rates from files to classes beside the model's own, with the share of each part."""
    mine = [(row, row.first.end_to_end) for row in rows if row.timing]
    shown = [(row, facts) for row, facts in mine if facts is not None]
    if not shown:
        return None
    own = {_work_of(r): r.timing for r in rows if r.first.scenario == "offline"}
    parts = tuple(shown[0][1].part_s)
    lines = []
    for row, facts in shown:
        whole = sum(facts.part_s.values()) or 1.0
        alone = own.get(_work_of(row))
        shares = [f"{100 * facts.part_s[part] / whole:.1f}" for part in parts]
        rate = number(row.timing.throughput if row.timing else None)
        rates = [rate, number(alone.throughput if alone else None)]
        lines.append([*_names_of(row), str(row.first.batch_size), *rates, *shares])
    headings = [*NAMES, "batch", "img/s", "model", *(f"% {part}" for part in parts)]
    title = f"End to end: {shown[0][1].source}"
    return table(headings, lines, title=title, words=NAMES)


def _work_of(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.environment
    where = (env.host, env.device, record.batch_size, record.mode, record.sitting)
    return (record.model, record.precision, record.runtime, *where)


def _served(rows: Sequence[CostRow]) -> Table | None:
    """Return the latencies of single images that arrive at random, and the highest rate."""
    mine = [(row, row.first.server) for row in rows]
    shown = [(row, facts) for row, facts in mine if facts is not None]
    if not shown:
        return None
    lines = [
        [
            *_names_of(row),
            number(facts.rate),
            *(number(facts.latency_ms(percent)) for percent in (50, 90, 99)),
            f"{len(facts.latency_s):,}",
            number(facts.highest_rate),
        ]
        for row, facts in shown
    ]
    bound = 1e3 * shown[0][1].bound_s
    headings = [*NAMES, "rate /s", "p50 ms", "p90 ms", "p99 ms", "requests", "highest /s"]
    title = f"As a server: Poisson arrivals, highest rate with p99 within {bound:g} ms"
    return table(headings, lines, title=title, words=NAMES)
