"""The verdict of a report: eight lines at most, what they are about first.

Scope, what is established, what is only suggested, how a gap splits, what it costs, what to take,
and what to doubt. Everything else stands in the tables below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.derive.attribution import Effect
from bench.report.derive.findings import Findings
from bench.report.derive.pairs import Pair
from bench.report.derive.published import beside
from bench.report.derive.speed.attention_tax import RuntimeCost
from bench.report.derive.speed.profile_rows import doubts, starved, worst
from bench.report.page.blocks import Block, Bullets, Heading
from bench.report.page.formats import count, number, percent
from bench.report.page.wording import (
    basis,
    choice_sentence,
    cost_factor,
    effect_statement,
    gap_sentence,
    probability,
    rests_on,
    spread,
    statement,
)
from bench.report.read.models import attention_title
from bench.report.read.trained import Cell

MAX_LINES = 8
MAX_NAMED = 3
MAX_SENTENCES = 2
# The costs for which the verdict says which model to take, in this order.
TAKEN_FOR = ("latency", "throughput", "training-time")
Item = tuple[str, str]


def verdict(found: Findings) -> list[Block]:
    """Return the verdict as blocks; nothing where nothing was trained or timed."""
    items = lines(found)
    return [Heading("Verdict"), Bullets(tuple(items))] if items else []


def lines(found: Findings) -> list[Item]:
    """Return the lines of the verdict, each with its lead."""
    items = [
        *_scope(found),
        *_established(found),
        *_suggested(found),
        *gaps(found),
        *costs(found),
        *_choices(found),
        *_doubts(found),
    ]
    return _said_once(items[:MAX_LINES], found)


def _said_once(items: Sequence[Item], found: Findings) -> list[Item]:
    """Return the lines with what a seed sd was taken from in the first that rests on it alone.

    The others only say that they are of one seed. A stated sd stands in each.
    """
    notes = [note for note in _bases(found.pairs.pairs) if "have several" in note]
    told: list[Item] = []
    for lead, text in items:
        for note in notes:
            if any(note in before for _, before in told):
                text = text.replace(note, "one seed")
        told.append((lead, text))
    return told


def _scope(found: Findings) -> list[Item]:
    """Return what the verdict is about: data, training, seeds, and how far from published."""
    best = found.best()
    if not best:
        return []
    cell = best[0]
    facts, record = cell.runs[0].record.dataset, cell.runs[0].record
    here = [c for c in found.study.cells if (c.dataset, c.digest) == (cell.dataset, cell.digest)]
    trained = f"{cell.recipe.name}, {count(cell.recipe.epochs, 'epoch')}"
    if not record.epochs:
        trained = "weights as loaded"
    text = (
        f"{facts.num_train:,} training and {facts.num_test:,} test images; {trained}; "
        f"{_seeds(here)}; highest top-1 {percent(cell.top1)} % (images alone), "
        f"{found.labels[cell.key]}{_published(here, found)}"
    )
    others = len(found.study.datasets) - 1
    more = f"; {count(others, 'more data set')} below" if others else ""
    return [(f"Scope, {cell.dataset}:", f"{text}{more}.")]


def _seeds(cells: Sequence[Cell]) -> str:
    numbers = sorted({len(cell.runs) for cell in cells})
    told = "one" if numbers == [1] else str(numbers[0])
    if len(numbers) > 1:
        told = f"{numbers[0]} to {numbers[-1]}"
    return f"{told} seed{'' if numbers == [1] else 's'} a model"


def _published(cells: Sequence[Cell], found: Findings) -> str:
    """Return how far the most accurate model with a published figure is from it."""
    known = [(c.top1.value, c.key, c, figures) for c in cells if c.top1 and (figures := beside(c))]
    if not known:
        return "; no published figure is known of these models on these data"
    top1, _, cell, figures = max(known, key=lambda one: one[:2])
    one = figures[0].published
    gap = 100 * (one.top1 - top1)
    side = "below" if gap > 0 else "above"
    alike = "trained alike" if not figures[0].why_not else "not trained alike"
    label, who = found.labels[cell.key], one.source.name
    return f"; {label} {abs(gap):.1f} points {side} the {100 * one.top1:.1f} % of {who}, {alike}"


def _judged(found: Findings) -> list[tuple[Effect | Pair, str]]:
    """Return every test of models that found something, attention first, with what it found."""
    margin = found.stated.margin
    told: list[tuple[Effect | Pair, str]] = [
        (effect, f"Attention, {effect.term.change}{_on(one.dataset, found)}: {text}")
        for one in found.attributions
        for effect in one.effects
        if effect.top1 and effect.term.name == "attention" and effect.term.num_contexts > 1
        if (text := effect_statement(effect, margin))
    ]
    told += [(pair, statement(pair, found.labels, margin)) for pair in _ranked(found)]
    return [(one, text) for one, text in told if one.finding != "not resolved"]


def _on(dataset: str, found: Findings) -> str:
    """Return the data set where there are several; of one the scope tells."""
    return f", {dataset}" if len(found.study.datasets) > 1 else ""


def _ranked(found: Findings) -> list[Pair]:
    """Return the pairs that may be judged, those that differ in attention alone first."""
    pairs = [p for p in found.pairs.pairs if not p.mismatches]
    return sorted(pairs, key=lambda p: p.factors != ("attention",))


def _established(found: Findings) -> list[Item]:
    known = _judged(found)
    if known:
        told = [
            f"{text}, {probability(one.p_family)}" if one.finding in ("more", "less") else text
            for one, text in known
        ]
        shown = [one for one, _ in known[:MAX_SENTENCES]]
        sizes = dict.fromkeys(str(one.family_size) for one in shown if one.family_size > 1)
        family = [f"p after correction for {' and '.join(sizes)} tests"] if sizes else []
        return [("Established:", "; ".join([*_first(told), *family, *_bases(shown)]) + ".")]
    if any(not pair.mismatches for pair in found.pairs.pairs):
        return [("Established:", "nothing about which model is the more accurate.")]
    return []


def _suggested(found: Findings) -> list[Item]:
    """Return the comparisons that are not resolved, in short; those of SE alone first."""
    pairs = [p for p in _ranked(found) if p.finding == "not resolved"]
    told = [
        f"{found.labels[p.second.key]} against {found.labels[p.first.key]} "
        f"{spread(p.difference.interval)}"
        for p in pairs
        if p.difference
    ]
    if not told:
        return []
    unknown = [p for p in pairs if p.difference and p.difference.luck is None]
    lead = "of the trained networks alone, " if unknown else ""
    text = "; ".join([*_first(told, 1), *_bases(unknown[:1] or pairs)])
    return [("Only suggested:", f"{lead}{text}.")]


def _bases(tested: Sequence[Effect | Pair]) -> list[str]:
    """Return once each what the luck of training in these differences rests on."""
    found = [one.top1 if isinstance(one, Effect) else one.difference for one in tested]
    return list(dict.fromkeys(note for one in found if one for note in basis(one)))


def _first(texts: Sequence[str], most: int = MAX_SENTENCES) -> list[str]:
    """Return the first of some texts, and how many more there are."""
    rest = len(texts) - most
    return [*texts[:most], *([f"{rest} more: see “Differences”"] if rest > 0 else [])]


def gaps(found: Findings) -> list[Item]:
    """Return how the largest gap between models of both stems and attentions splits."""
    every = [gap for attribution in found.attributions for gap in attribution.gaps]
    if not every:
        return []
    gap = max(every, key=lambda gap: (gap.resolved, abs(gap.total.interval.estimate)))
    return [("Stem or attention:", gap_sentence(gap, found.labels))]


def costs(found: Findings) -> list[Item]:
    """Return what attention costs, a line a scenario: in eager and in the fastest runtime."""
    told: list[Item] = []
    for cost in found.costs:
        single = cost.row.first.scenario == "single_stream"
        what = "one image" if single else f"a batch of {cost.row.first.batch_size}"
        names = f": {found.model_labels[cost.model]} against {found.model_labels[cost.twin]}"
        names += f" on {cost.row.environment.device_name}"
        names = "" if any(names in text for _, text in told) else names
        text = "; ".join(_runtime(one) for one in cost.runtimes)
        told.append((f"What {attention_title(cost.model)} costs, {what}:", f"{text}{names}."))
    return told


def _runtime(cost: RuntimeCost) -> str:
    """Return what attention costs in one runtime, with what disturbed either measurement."""
    plain, full = map(number, cost.times_ms)
    disturbed = worst([*doubts(cost.base), *doubts(cost.row)])
    notes = f" [{'; '.join(disturbed[:MAX_NAMED])}]" if disturbed else ""
    return f"{cost.runtime} {plain} → {full} ms, {cost_factor(cost.ratio)}{notes}"


def _choices(found: Findings) -> list[Item]:
    """Return which model to take at which budget of the first cost that was measured."""
    for name in TAKEN_FOR:
        for dataset, front in found.fronts:
            if front.axis.name.startswith(name) and len(front.choices) > 1:
                chosen = front.choices[:MAX_SENTENCES]
                told = "; ".join(choice_sentence(front, c, found.labels) for c in chosen)
                if front.withheld:
                    told += f"; no chance is given: {front.withheld}"
                elif front.luck is not None:
                    told += f"; {rests_on(front.luck)}"
                where = f"Which to take{_on(dataset, found)}, by {front.axis.title}:"
                return [(where, f"{told}.")]
    return []


def _doubts(found: Findings) -> list[Item]:
    """Return what was withheld, has not learnt, or was measured on a disturbed machine."""
    told = []
    guessing = [c for c in found.study.cells if c.top1 and not c.has_learnt]
    if guessing:
        names = ", ".join(found.labels[cell.key] for cell in guessing[:MAX_NAMED])
        more = " and others" if len(guessing) > MAX_NAMED else ""
        told.append(f"{names}{more}: no better than guessing")
    trained = [c for c in found.study.cells if c.record.epochs]
    if rising := sum(c.still_learning for c in trained):
        told.append(f"{rising} of {count(len(trained), 'model')} stopped while still learning")
    if found.pairs.withheld:
        told.append(f"{count(len(found.pairs.withheld), 'pair')} not comparable")
    timed = [row for row in found.study.costs if row.timing]
    hungry = sum(map(starved, timed))
    facts = {
        "starved by other work": hungry,
        "disturbed or noisy": sum(bool(doubts(row)) for row in timed) - hungry,
        "from one sitting": sum(r.timing.num_processes == 1 for r in timed if r.timing),
    }
    known = ", ".join(f"{number} {what}" for what, number in facts.items() if number > 0)
    told += [f"of {count(len(timed), 'timed row')} {known}"] if known else []
    return [("Doubts:", "; ".join(told) + ".")] if told else []
