"""The tables that answer: which is better, what caused it, which to take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.report.derive.attribution import Attribution, Effect
from bench.report.derive.findings import Findings, Speed
from bench.report.derive.headline import machine_of
from bench.report.derive.pairs import Pair, seeds_wanted
from bench.report.derive.pareto import Front, Place
from bench.report.derive.speed.axes import Axis
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph, Table, table
from bench.report.page.formats import (
    MISSING,
    chance,
    p_value,
    percent,
    point_interval,
    points,
    ratio,
    span,
)
from bench.report.page.wording import COVERS, gap_sentence, speed_verdict
from bench.stats.times import FEWEST, Interval

MAX_FRONTS = 12


def differences(found: Findings) -> list[Block]:
    """Return the tables of all compared pairs: of models, and of networks with nothing to judge."""
    pairs = found.pairs.pairs
    if not pairs:
        return []
    left_out = found.pairs.num_left_out
    methods = sorted({p.difference.method for p in pairs if p.difference})
    note = (
        "Model minus against, on the same test images; p is corrected by Holm over all that is "
        f"tested on this data set. Found by: {'; '.join(methods)}."
    )
    more = f" {left_out} more pairs are not compared." if left_out else ""
    parts: list[Block] = [Heading("Differences"), Paragraph(note + more)]
    for covers, known in COVERS:
        chosen = [p for p in pairs if p.difference and (p.difference.luck is not None) is known]
        if chosen:
            columns = (
                "model",
                "against",
                "differ in",
                f"points of top-1 (95 % CI: {covers})",
                "p",
                "verdict",
                "seeds needed",
            )
            parts.append(table(columns, [_pair_line(p, found) for p in chosen]))
    return parts


def _pair_line(pair: Pair, found: Findings) -> list[str]:
    difference = pair.difference
    assert difference is not None
    margin = f"same within ±{points(found.stated.margin or 0)}"
    words = {"more": "better", "less": "worse", "same": margin}
    judged = words.get(pair.finding, "not resolved")
    if pair.mismatches:
        judged = f"NOT COMPARABLE: {'; '.join(map(str, pair.mismatches))}"
    elif difference.luck is None:
        judged = "none: one seed, its luck unknown"
    elif difference.exploratory:
        judged += ", one seed" + (", seed sd stated" if difference.luck.stated else "")
    wanted = seeds_wanted(pair)
    return [
        found.labels[pair.second.key],
        found.labels[pair.first.key],
        ", ".join(pair.factors) or MISSING,
        point_interval(difference.interval),
        p_value(pair.p_family),
        judged,
        str(wanted) if wanted else MISSING,
    ]


def attribution(found: Findings) -> list[Block]:
    """Return what each factor does to accuracy and to each cost."""
    parts: list[Block] = []
    for one in found.attributions:
        parts += [Heading(one.dataset, 3), _effects(one)] if one.effects else []
        split = tuple(("Stem or attention:", gap_sentence(gap, found.labels)) for gap in one.gaps)
        parts += [Bullets(split)] if split else []
        if one.inseparable:
            names = ", ".join(one.inseparable)
            stuck = f"Not separable, because no two runs differ in it alone: {names}."
            parts.append(Paragraph(stuck))
    if not parts:
        return []
    note = (
        "The effect of changing one factor with all else equal, the mean over the contexts in "
        "which that was done; an interaction is how much one factor's effect changes with the "
        "other. Without a p the luck of training is unknown and the interval is that of these "
        "networks. Costs are factors: ×1.10 is 10 % more of that axis; a time has an interval "
        f"where each context was timed in {FEWEST} sittings or more."
    )
    return [Heading("Attribution"), Paragraph(note), *parts]


def _effects(one: Attribution) -> Table:
    axes = [axis for axis in one.axes if any(axis.name in e.costs for e in one.effects)]
    known = any(effect.top1 and effect.top1.luck for effect in one.effects)
    columns = [
        "factor",
        "change",
        "contexts",
        f"points of top-1 (95 % CI: {COVERS[not known][0]})",
        "p",
        *(
            axis.title + covers(axis, [e.costs.get(axis.name) for e in one.effects])
            for axis in axes
        ),
    ]
    return table(columns, [_effect_line(effect, axes) for effect in one.effects])


def covers(axis: Axis, shown: Iterable[Interval | None]) -> str:
    """Return what the intervals of costs in a column cover: of sittings, or of trainings."""
    ends = any(one and 0 < one.low < one.high < math.inf for one in shown)
    kind = "trainings" if axis.name.startswith("training-time") else "sittings"
    return f" (95 % CI: between {kind})" if ends else ""


def _effect_line(effect: Effect, axes: Sequence[Axis]) -> list[str]:
    top1 = effect.top1
    return [
        effect.term.name,
        effect.term.change,
        str(effect.term.num_contexts),
        point_interval(top1.interval) if top1 else MISSING,
        p_value(effect.p_family),
        *(ratio(effect.costs.get(axis.name)) for axis in axes),
    ]


def fronts(found: Findings) -> list[Block]:
    """Return, for each cost, the models on the front and how sure that is."""
    parts: list[Block] = []
    for dataset, front in found.fronts[:MAX_FRONTS]:
        parts += [Heading(f"{dataset}: {front.axis.title}", 3), _front_table(front, found)]
        if front.withheld:
            parts.append(Paragraph(f"No probabilities: {front.withheld}."))
    if not parts:
        return []
    note = (
        "A model is on the Pareto front when none is both as accurate and as cheap. The "
        "probability is the share of draws of images, the luck of training and costs in which it "
        "is; there is none where that luck is unknown, or the noise of a cost, as after a single "
        "sitting. Models that are hardly ever on it, or have "
        "not learnt, are left out. No points per cent of cost are given where costs differ by less "
        "than their noise or 5 %."
    )
    rest = len(found.fronts) - MAX_FRONTS
    more = [Paragraph(f"{rest} more fronts are left out.")] if rest > 0 else []
    return [Heading("Accuracy against cost"), Paragraph(note), *parts, *more]


def _front_table(front: Front, found: Findings) -> Table:
    columns = (
        "model",
        front.axis.unit + covers(front.axis, front.axis.values.values()),
        "top-1 % (95 % CI: images)",
        "on the front",
        "probability",
        "points per +1 % cost",
    )
    shown = [p for p in front.places if p.on_front or (p.probability or 0.0) >= 0.05]
    return table(columns, [_front_line(p, front, found) for p in shown])


def _front_line(place: Place, front: Front, found: Findings) -> list[str]:
    step = place.points_per_percent
    return [
        found.labels[place.cell.key],
        span(front.axis.values[place.cell.key]),
        percent(place.cell.top1),
        "yes" if place.on_front else "no",
        chance(place.probability),
        MISSING if step is None else f"{step:.3g}",
    ]


def speeds(found: Findings) -> list[Block]:
    """Return the ratios of times between models that differ in one factor."""
    if not found.speeds:
        return []
    parts: list[Block] = [Heading("Speed ratios")]
    for kind, within in (("between sittings", False), ("within a sitting", True)):
        lines = [_speed_line(s, found) for s in found.speeds if s.ratio.is_within is within]
        heading = f"time (95 % CI: {kind})"
        columns = ("model", "against", "differ in", "device", "scenario", heading, "verdict", "how")
        parts += [table(columns, lines)] if lines else []
    return parts


def _speed_line(speed: Speed, found: Findings) -> list[str]:
    floor = speed.ratio.floor
    noise = f", noise between turns {100 * floor:.1f} %" if floor is not None else ""
    record = speed.row.first
    return [
        found.model_labels[speed.row.model],
        found.model_labels[speed.base.model],
        speed.factor,
        machine_of(speed.row)[0],
        f"{record.scenario.replace('_', '-')}, batch {record.batch_size}",
        ratio(speed.ratio.interval),
        speed_verdict(speed.ratio),
        speed.ratio.method + noise,
    ]
