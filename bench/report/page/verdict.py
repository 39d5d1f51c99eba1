"""The verdict of a report: eight lines at most, what they are about first.

Scope, what is established, what is only suggested, how a gap splits, what it costs, what to take,
and what to doubt. Everything else stands in the tables below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.derive.findings import Findings
from bench.report.derive.pairs import Pair, seeds_wanted
from bench.report.derive.published import beside
from bench.report.derive.speed.attention_tax import RuntimeCost, ScenarioCost
from bench.report.derive.speed.profile_rows import doubts, starved, worst
from bench.report.page.blocks import Block, Bullets, Heading
from bench.report.page.formats import count, number, percent
from bench.report.page.wording import (
    basis,
    choice_sentence,
    cost_factor,
    effect_sentence,
    gap_sentence,
    rests_on,
    spread,
)
from bench.report.page.wording import verdict as pair_verdict
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
    return items[:MAX_LINES]


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


def _judged(found: Findings) -> list[tuple[bool, str]]:
    """Return every sentence on models, attention first, with whether it is established."""
    margin, told = found.stated.margin, []
    for one in found.attributions:
        for effect in one.effects:
            if effect.top1 and effect.term.name == "attention" and effect.term.num_contexts > 1:
                lead = f"Attention, {effect.term.change}, on {one.dataset}: "
                text = lead + effect_sentence(effect, margin)
                told.append((effect.finding != "not resolved", text))
    pairs = [p for p in found.pairs.pairs if not p.mismatches]
    for pair in sorted(pairs, key=lambda p: p.factors != ("attention",)):
        text = pair_verdict(pair, found.labels, margin)
        told.append((pair.finding != "not resolved", text))
    return told


def _established(found: Findings) -> list[Item]:
    known = [text for is_known, text in _judged(found) if is_known]
    if known:
        return [("Established:", _first(known))]
    if any(not pair.mismatches for pair in found.pairs.pairs):
        return [("Established:", "nothing about which model is the more accurate.")]
    return []


def _suggested(found: Findings) -> list[Item]:
    """Return the comparisons that are not resolved, in short; those of SE alone first."""
    pairs = [p for p in found.pairs.pairs if p.finding == "not resolved" and not p.mismatches]
    told = [
        f"{found.labels[p.second.key]} against {found.labels[p.first.key]} "
        f"{spread(p.difference.interval)}{_wanted(p)}"
        for p in sorted(pairs, key=lambda p: p.factors != ("attention",))
        if p.difference
    ]
    if not told:
        return []
    rest = count(len(told) - MAX_NAMED, "more comparison") if len(told) > MAX_NAMED else ""
    text = "; ".join([*told[:MAX_NAMED], *([f"{rest}: see “Differences”"] if rest else [])])
    unknown = [p.difference for p in pairs if p.difference and p.difference.luck is None]
    if unknown:
        text = f"of the trained networks alone, {text}; {'; '.join(basis(unknown[0]))}"
    else:
        text += "".join(f"; {note}" for note in _bases(pairs))
    return [("Only suggested:", f"{text}.")]


def _bases(pairs: Sequence[Pair]) -> list[str]:
    """Return once each what the luck of training in these differences rests on."""
    return list(dict.fromkeys(note for p in pairs if p.difference for note in basis(p.difference)))


def _wanted(pair: Pair) -> str:
    wanted = seeds_wanted(pair)
    return f" (needs about {wanted:,} seeds a model)" if wanted else ""


def _first(texts: Sequence[str]) -> str:
    """Return the first sentences, and how many more there are."""
    rest = len(texts) - MAX_SENTENCES
    more = f" And {count(rest, 'more comparison')}: see “Differences”." if rest > 0 else ""
    return " ".join(texts[:MAX_SENTENCES]) + more


def gaps(found: Findings) -> list[Item]:
    """Return how the largest gap between models of both stems and attentions splits."""
    gaps = [gap for attribution in found.attributions for gap in attribution.gaps]
    if not gaps:
        return []
    gap = max(gaps, key=lambda gap: (gap.resolved, abs(gap.total.interval.estimate)))
    return [("Stem or attention:", gap_sentence(gap, found.labels))]


def costs(found: Findings) -> list[Item]:
    """Return what attention costs, a line a scenario: in eager and in the fastest runtime."""
    return [_cost_line(cost, found) for cost in found.costs]


def _cost_line(cost: ScenarioCost, found: Findings) -> Item:
    single = cost.row.first.scenario == "single_stream"
    what = "one image" if single else f"a batch of {cost.row.first.batch_size}"
    names = f"{found.model_labels[cost.model]} against {found.model_labels[cost.twin]}"
    told = "; ".join(_runtime(one) for one in cost.runtimes)
    where = cost.row.environment.device_name
    return (f"What {attention_title(cost.model)} costs, {what}:", f"{told}: {names} on {where}.")


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
                chosen = front.choices[:MAX_NAMED]
                told = "; ".join(choice_sentence(front, c, found.labels) for c in chosen)
                if front.withheld:
                    told += f"; no chance is given: {front.withheld}"
                elif front.luck is not None:
                    told += f"; {rests_on(front.luck)}"
                return [(f"Which to take, {dataset}, by {front.axis.title}:", f"{told}.")]
    return []


def _doubts(found: Findings) -> list[Item]:
    """Return what was withheld, has not learnt, or was measured on a disturbed machine."""
    told = []
    guessing = [c for c in found.study.cells if c.top1 and not c.has_learnt]
    if guessing:
        names = ", ".join(found.labels[cell.key] for cell in guessing[:MAX_NAMED])
        more = " and others" if len(guessing) > MAX_NAMED else ""
        told.append(f"{names}{more}: no better than guessing, so in no comparison")
    if found.pairs.withheld:
        told.append(f"{count(len(found.pairs.withheld), 'pair')} not comparable")
    timed = [row for row in found.study.costs if row.timing]
    hungry = sum(map(starved, timed))
    if hungry:
        told.append(f"{hungry} of {count(len(timed), 'timed row')} starved by other work")
    disturbed = sum(bool(doubts(row)) for row in timed) - hungry
    if disturbed > 0:
        told.append(f"{disturbed} of {count(len(timed), 'timed row')} disturbed or noisy")
    once = sum(row.timing.num_processes == 1 for row in timed if row.timing)
    if once:
        told.append(
            f"{once} of {count(len(timed), 'timed row')} from one sitting, which decides no speed"
        )
    return [("Doubts:", "; ".join(told) + ".")] if told else []
