"""The parts of a report that answer: which is better, what caused it, which to take."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.derive.attribution import Attribution, Effect
from bench.report.derive.axes import Axis
from bench.report.derive.findings import Findings, Speed
from bench.report.derive.headline import machine_of
from bench.report.derive.pairs import Pair, seeds_wanted
from bench.report.derive.pareto import Front, Place
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph, Table, table
from bench.report.page.formats import MISSING, chance, p_value, percent, point_interval, ratio, span
from bench.report.page.wording import choice_sentence, effect_sentence, gap_sentence
from bench.report.page.wording import verdict as pair_verdict
from bench.report.read.trained import Cell

MAX_VERDICTS = 12
MAX_FRONTS = 12
MAX_NAMED = 3
# The costs for which the verdict says which model to take, in this order.
TAKEN_FOR = ("latency", "throughput", "training-time")
Item = tuple[str, str]


def verdict(found: Findings) -> list[Block]:
    """Return the verdict in words: the best, what SE does, the gap explained, which to take."""
    items = [
        *_best(found),
        *_se_on_average(found),
        *_se_verdicts(found),
        *_gap_sentences(found),
        *_choices(found),
    ]
    if not items:
        return []
    withheld = len(found.pairs.withheld)
    if withheld:
        pairs = "1 pair is" if withheld == 1 else f"{withheld} pairs are"
        items.append(("Withheld:", f"{pairs} not compared; see “Not comparable” for what differs."))
    return [Heading("Verdict"), Bullets(tuple(items))]


def _best(found: Findings) -> list[Item]:
    items = []
    for cell in found.best():
        rivals = [p for p in found.pairs.pairs if cell.key in (p.first.key, p.second.key)]
        among = _among(cell, rivals, found)
        seeds = "one seed, exploratory" if len(cell.runs) == 1 else f"{len(cell.runs)} seeds"
        text = f"{found.labels[cell.key]}, {percent(cell.top1)} % ({seeds}){among}."
        items.append((f"Highest top-1 on {cell.dataset}:", text))
    return items


def _among(cell: Cell, rivals: Sequence[Pair], found: Findings) -> str:
    """Return how many rivals the best cell beats beyond chance, and which it does not."""
    if not rivals:
        return ""
    open_ones = [p for p in rivals if not p.resolved]
    text = f"; better than {len(rivals) - len(open_ones)} of {len(rivals)} rivals beyond chance"
    if not 0 < len(open_ones) <= MAX_NAMED:
        return text
    names = [found.labels[(p.second if p.first is cell else p.first).key] for p in open_ones]
    return f"{text}, not told apart from {' and '.join(names)}"


def _se_on_average(found: Findings) -> list[Item]:
    """Return what SE does over all pairs of a data set that it alone tells apart."""
    items = []
    for one in found.attributions:
        tested = [effect for effect in one.effects if effect.top1]
        for effect in tested:
            if effect.term.name == "SE" and effect.term.num_contexts > 1:
                lead = f"SE, all else equal, {effect.term.change}, on {one.dataset}:"
                items.append((lead, effect_sentence(effect, len(tested))))
    return items[:MAX_VERDICTS]


def _se_verdicts(found: Findings) -> list[Item]:
    """Return the verdict on each pair that SE alone tells apart, else on the other pairs."""
    twins = [p for p in found.pairs.pairs if p.factors == ("SE",)]
    chosen = (twins or list(found.pairs.pairs))[:MAX_VERDICTS]
    lead = "What SE brings:" if twins else "Compared:"
    items = [(lead, pair_verdict(p, found.labels, found.seed_sd)) for p in chosen]
    speeds = [s for s in found.speeds if s.factor == "SE"][:MAX_VERDICTS]
    return items + [("What SE costs:", _speed_sentence(speed, found)) for speed in speeds]


def _speed_sentence(speed: Speed, found: Findings) -> str:
    row, base = (found.model_labels[r.model] for r in (speed.row, speed.base))
    batch = speed.row.first.batch_size
    what = "one image" if batch == 1 else f"a batch of {batch}"
    device = speed.row.environment.device_name
    doubt = "" if speed.ratio.differs else ", within noise"
    took = f"{row} takes {ratio(speed.ratio.interval)} the time of {base}"
    return f"{took} for {what} on {device}{doubt}."


def _gap_sentences(found: Findings) -> list[Item]:
    gaps = [gap for attribution in found.attributions for gap in attribution.gaps]
    return [("Stem or SE:", gap_sentence(gap, found.labels)) for gap in gaps[:MAX_VERDICTS]]


def _choices(found: Findings) -> list[Item]:
    """Return which model to take at which budget of time."""
    items = []
    for dataset, front in found.fronts[:MAX_FRONTS]:
        if front.axis.name.startswith(TAKEN_FOR) and len(front.choices) > 1:
            told = "; ".join(choice_sentence(front, c, found.labels) for c in front.choices)
            if any(len(place.cell.runs) == 1 for place in front.places):
                told += "; one seed: the luck of training is not in these chances"
            items.append((f"Which to take, {dataset}, by {front.axis.title}:", f"{told}."))
    return items


def differences(found: Findings) -> list[Block]:
    """Return the table of all compared pairs with their tests."""
    pairs = found.pairs.pairs
    if not pairs:
        return []
    columns = (
        "model",
        "against",
        "differ in",
        "points of top-1 (95 % CI)",
        "p",
        "verdict",
        "seeds needed",
    )
    left_out = found.pairs.num_left_out
    methods = sorted({p.difference.method for p in pairs if p.difference})
    note = (
        "Second minus first on the same test images; p is corrected by Holm over the family of "
        f"this data set. Found by: {'; '.join(methods)}."
    )
    more = f" {left_out} pairs that differ in more than one thing are left out." if left_out else ""
    lines = [_pair_line(p, found) for p in pairs]
    return [Heading("Differences"), Paragraph(note + more), table(columns, lines)]


def _pair_line(pair: Pair, found: Findings) -> list[str]:
    difference = pair.difference
    assert difference is not None
    better = "better" if difference.interval.estimate > 0 else "worse"
    judged = better if pair.resolved else "not resolved"
    if pair.mismatches:
        judged = f"NOT COMPARABLE: {'; '.join(map(str, pair.mismatches))}"
    elif difference.exploratory:
        judged += ", exploratory"
    wanted = seeds_wanted(pair, found.seed_sd)
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
        if one.inseparable:
            names = ", ".join(one.inseparable)
            stuck = f"Not separable, because no two runs differ in it alone: {names}."
            parts.append(Paragraph(stuck))
    if not parts:
        return []
    note = (
        "The effect of changing one factor with all else equal, the mean over the contexts in "
        "which that was done; an interaction is how much one factor's effect changes with the "
        "other. Costs are factors: ×1.10 is 10 % more of that axis."
    )
    return [Heading("Attribution"), Paragraph(note), *parts]


def _effects(one: Attribution) -> Table:
    axes = [axis for axis in one.axes if any(axis.name in e.costs for e in one.effects)]
    columns = [
        "factor",
        "change",
        "contexts",
        "points of top-1 (95 % CI)",
        "p",
        *(axis.title for axis in axes),
    ]
    return table(columns, [_effect_line(effect, axes) for effect in one.effects])


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
    if not parts:
        return []
    note = (
        "A model is on the Pareto front when none is both as accurate and as cheap. The "
        "probability is the share of bootstrap draws of images, seeds and costs in which it is; "
        "models that are hardly ever on it are left out. The luck of training is drawn only for "
        "models with several seeds."
    )
    rest = len(found.fronts) - MAX_FRONTS
    more = [Paragraph(f"{rest} more fronts are left out.")] if rest > 0 else []
    return [Heading("Accuracy against cost"), Paragraph(note), *parts, *more]


def _front_table(front: Front, found: Findings) -> Table:
    columns = (
        "model",
        front.axis.unit,
        "top-1 % (95 % CI)",
        "on the front",
        "probability",
        "points per +1 % cost",
    )
    shown = [p for p in front.places if p.on_front or p.probability >= 0.05]
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
    columns = (
        "model",
        "against",
        "differ in",
        "device",
        "scenario",
        "time (95 % CI)",
        "verdict",
        "how",
    )
    return [Heading("Speed ratios"), table(columns, [_speed_line(s, found) for s in found.speeds])]


def _speed_line(speed: Speed, found: Findings) -> list[str]:
    slower = "slower" if speed.ratio.interval.estimate > 1 else "faster"
    floor = f", A/A floor {100 * speed.ratio.floor:.1f} %" if speed.ratio.floor is not None else ""
    record = speed.row.first
    return [
        found.model_labels[speed.row.model],
        found.model_labels[speed.base.model],
        speed.factor,
        machine_of(speed.row)[0],
        f"{record.scenario.replace('_', '-')}, batch {record.batch_size}",
        ratio(speed.ratio.interval),
        slower if speed.ratio.differs else "same within noise",
        speed.ratio.method + floor,
    ]
