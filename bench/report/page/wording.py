"""Say in words what a comparison found; names are not escaped yet."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.report.derive.attribution import Effect, Gap
from bench.report.derive.gains import Gain
from bench.report.derive.pairs import Pair, seeds_wanted
from bench.report.derive.pareto import Choice, Front
from bench.report.derive.speed.ratios import SPEED_MARGIN, Ratio
from bench.report.page.formats import chance, number, p_value, points, ratio
from bench.stats.accuracy import Difference
from bench.stats.luck import Luck
from bench.stats.times import Interval

# What an interval of accuracies covers, and whether the luck of training is known to it.
COVERS = (("seeds and images", True), ("these networks, images alone", False))


def verdict(pair: Pair, labels: dict[str, str], margin: float | None = None) -> str:
    """Return the verdict on a pair with all that a reader must know beside it."""
    text = statement(pair, labels, margin)
    notes = _caveats(pair) if pair.difference else []
    return "; ".join([text, *notes]) + "."


def statement(pair: Pair, labels: dict[str, str], margin: float | None = None) -> str:
    """Return which of a pair is better, that they are the same, or that it is not resolved."""
    found = pair.difference
    one, two = labels[pair.first.key], labels[pair.second.key]
    if found is None:
        return f"{two} and {one} are not compared: {'; '.join(map(str, pair.mismatches))}"
    by = spread(found.interval)
    match pair.finding:
        case "more":
            return f"{two} is better than {one} by {spread(found.interval, sign=False)}"
        case "less":
            return f"{one} is better than {two} by {spread(_turned(found.interval), sign=False)}"
        case "same":
            return f"{two} and {one} are the same within ±{points(margin or 0)} points: {by}"
        case _ if found.luck is None:
            return f"these two trained networks: {two} against {one}, {by} (images alone)"
        case _:
            return f"{two} against {one}: not resolved, {by}"


def spread(interval: Interval, sign: bool = True) -> str:
    """Return a difference with its interval: ``+0.90 points (0.30 to 1.5)``."""
    ends = f"({points(interval.low)} to {points(interval.high)})"
    return f"{points(interval.estimate, sign=sign)} points {ends}"


def _turned(interval: Interval) -> Interval:
    return Interval(-interval.estimate, -interval.high, -interval.low, interval.num_samples)


def _caveats(pair: Pair) -> list[str]:
    """Return what a reader must know beside a difference."""
    found, notes = pair.difference, []
    assert found is not None
    if pair.resolved:
        notes.append(_probability(pair.p_family, pair.family_size))
    elif pair.finding == "not resolved" and pair.p_family and not found.interval.contains(0.0):
        notes.append("this interval alone leaves 0 out, the corrected test does not")
    if pair.mismatches:
        notes.append(f"NOT COMPARABLE, {'; '.join(map(str, pair.mismatches))}")
    if len(pair.factors) > 1:
        notes.append(f"{' and '.join(pair.factors)} differ, so neither alone is credited")
    notes += basis(found)
    wanted = seeds_wanted(pair)
    if wanted:
        notes.append(f"a difference of this size needs about {wanted:,} seeds a model")
    return notes


def basis(found: Difference) -> list[str]:
    """Return where the luck of training was taken from, where an arm has but one seed."""
    if found.luck is None:
        return ["one seed, and nothing says how lucky it was: no verdict on the models"]
    return [rests_on(found.luck)] if found.exploratory else []


def rests_on(luck: Luck) -> str:
    """Return what a statement on a model of one seed rests on."""
    sd = f"{points(luck.sd)} points"
    if luck.stated:
        return f"one seed, resting on the stated seed sd of {sd}"
    other = ", not all trained alike" if luck.elsewhere else ""
    return f"one seed, seed sd of {sd} of models that have several{other}"


def probability(p: float | None) -> str:
    """Return a p-value as it stands in a sentence: ``p = 0.032``."""
    told = p_value(p)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def _probability(p: float | None, family: int) -> str:
    return probability(p) + (f" after correction for {family} tests" if family > 1 else "")


def effect_statement(effect: Effect, margin: float | None = None) -> str:
    """Return what a factor does to top-1, the mean over the pairs in which it alone was changed."""
    found = effect.top1
    assert found is not None
    lead = {"more": "", "less": "", "same": f"none beyond ±{points(margin or 0)} points, "}
    text = lead.get(effect.finding, "not resolved, ")
    if found.luck is None:
        text = "of these trained networks alone, "
    return f"{text}{spread(found.interval)} over {effect.term.num_contexts} pairs"


def interaction_sentence(effect: Effect) -> str:
    """Return how much one factor's effect changes with another, and whether that is a change."""
    found = effect.top1
    assert found is not None
    words = {"more": "it grows", "less": "it falls", "same": "it stays the same"}
    judged = words.get(effect.finding, "not resolved")
    if found.luck is None:
        judged = "of these trained networks alone"
    text = f"{effect.term.change}: the gain changes by {spread(found.interval)}, {judged}"
    return "; ".join([text, *basis(found)]) + "."


def learned(gain: Gain) -> str:
    """Return what may be said of an attention's gain."""
    words = {"more": "better", "less": "worse", "same": "the same"}
    judged = words.get(gain.finding, "not resolved")
    return f"{judged}, exploratory" if gain.difference.exploratory else judged


def gap_sentence(gap: Gap, labels: dict[str, str]) -> str:
    """Return how a gap splits between stem and SE; one that is not resolved is not split."""
    text = f"{labels[gap.full.key]} against {labels[gap.plain.key]}: {spread(gap.total.interval)}"
    if gap.total.luck is None:
        return f"{text} between these trained networks; {'; '.join(basis(gap.total))}."
    notes = basis(gap.total)
    if not gap.resolved:
        return "; ".join([f"{text}, not resolved, so nothing is split", *notes]) + "."
    if not gap.shares:
        return "; ".join([text, f"none can be credited: {gap.note}", *notes]) + "."
    first, second = (
        (
            "the stem" if share.name == "stem" else share.name,
            f"{spread(share.difference.interval)}{_of_gap(share.of_gap)}",
        )
        for share in gap.shares
    )
    told = f"{text}, of which {first[0]} explains {first[1]}, {second[0]} {second[1]}"
    return "; ".join([told, gap.note, *notes]) + "."


def _of_gap(share: Interval) -> str:
    """Return a share in per cent where it means something: parts of one sign with the whole."""
    if not 0 <= share.estimate <= 1 or math.isinf(share.high):
        return ""
    ends = f"{100 * share.low:.0f} to {100 * share.high:.0f} %".replace("-", "−")
    return f", {100 * share.estimate:.0f} % of the gap ({ends})"


def choice_sentence(front: Front, choice: Choice, labels: dict[str, str]) -> str:
    """Return what to take within a budget."""
    top1 = choice.cell.top1
    value = f"{100 * top1.value:.1f} %" if top1 else ""
    bound = "up to" if front.axis.less_is_better else "at no less than"
    budget = f"{bound} {number(choice.budget)} {front.axis.unit}"
    told = f", best with {chance(choice.probability)}"
    if choice.probability is None:
        told = " as measured"
    sure = choice.probability is None or choice.probability >= 0.5
    advice = "take" if sure else "nothing stands out; measured best is"
    return f"{budget}, {advice} {labels[choice.cell.key]} ({value}{told})"


def speed_verdict(found: Ratio) -> str:
    """Return what a ratio of times establishes."""
    if found.replicated is None:
        return f"not decided: {found.method}"
    words = {"more": "slower", "less": "faster", "same": f"same within ±{SPEED_MARGIN:.0%}"}
    return words.get(found.finding, "not resolved").replace("%", " %")


def cost_factor(found: Ratio) -> str:
    """Return a ratio with what it may be taken for, and the noise that its sittings show.

    The interval only of one that may decide.

    ``×1.12 (1.10–1.14), slower, noise 0.4 %``.
    """
    shown = found.interval if found.replicated else replace(found.interval, low=0.0)
    notes = [ratio(shown), speed_verdict(found)]
    if found.floor is not None:
        notes.append(f"noise {100 * found.floor:.1f} %")
    return ", ".join(notes)
