"""Say in words what a comparison found; names are not escaped yet."""

from __future__ import annotations

from bench.report.derive.attribution import Effect, Gap
from bench.report.derive.pairs import LEVEL, Pair, seeds_wanted
from bench.report.derive.pareto import Choice, Front
from bench.report.page.formats import chance, number, p_value, points


def verdict(pair: Pair, labels: dict[str, str], known_sd: float | None = None) -> str:
    """Return the verdict on a pair: better by so much, or not resolved, with what to know of it."""
    found = pair.difference
    one, two = labels[pair.first.key], labels[pair.second.key]
    if found is None:
        return f"{two} and {one} are not compared: {'; '.join(map(str, pair.mismatches))}."
    interval = found.interval
    if pair.resolved:
        better, worse, sign = (two, one, 1) if interval.estimate > 0 else (one, two, -1)
        low, high = sorted((sign * interval.low, sign * interval.high))
        text = f"{better} is better than {worse} by {points(abs(interval.estimate))} points"
        text += f" ({points(low)} to {points(high)})"
    else:
        text = f"{two} against {one}: not resolved, {points(interval.estimate, sign=True)} points"
        text += f" ({points(interval.low)} to {points(interval.high)})"
    notes = _caveats(pair, known_sd)
    return f"{text}; {'; '.join(notes)}." if notes else f"{text}."


def _caveats(pair: Pair, known_sd: float | None) -> list[str]:
    """Return what a reader must know beside a difference."""
    found, notes = pair.difference, []
    assert found is not None
    if pair.p_family is not None:
        p = p_value(pair.p_family)
        corrected = f" after correction for {pair.family_size} comparisons"
        notes.append(
            (f"p {p}" if p.startswith("<") else f"p = {p}")
            + (corrected if pair.family_size > 1 else "")
        )
    if not pair.resolved and pair.p_family is not None and not found.interval.contains(0.0):
        notes.append("this interval alone leaves 0 out, the corrected test does not")
    if pair.mismatches:
        notes.append(f"NOT COMPARABLE, {'; '.join(map(str, pair.mismatches))}")
    if len(pair.factors) > 1:
        notes.append(f"{' and '.join(pair.factors)} differ, so neither alone is credited")
    wanted = seeds_wanted(pair, known_sd)
    # Without a spread over seeds the guess leaves the luck of training out.
    about = "about" if found.seed_sd is not None or known_sd is not None else "at least"
    need = f"a difference of this size needs {about} {wanted} seeds a model" if wanted else ""
    if found.exploratory:
        notes.append(f"exploratory, one seed: {need}" if need else "exploratory, one seed")
    elif not pair.resolved and need:
        notes.append(need)
    return notes


def effect_sentence(effect: Effect, num_effects: int) -> str:
    """Return what a factor does on average over the contexts in which it alone was changed."""
    found, p = effect.top1, p_value(effect.p_family)
    assert found is not None
    resolved = (effect.p_family or 0.0) < LEVEL and not found.interval.contains(0.0)
    told = p if p.startswith("<") else f"= {p}"
    text = "" if resolved else "not resolved, "
    text += f"{points(found.interval.estimate, sign=True)} points of top-1"
    text += f" ({points(found.interval.low)} to {points(found.interval.high)})"
    text += f", the mean over {effect.term.num_contexts} pairs that differ in it alone"
    text += f"; p {told} after correction for {num_effects} effects"
    return f"{text}{'; exploratory, one seed' if found.exploratory else ''}."


def gap_sentence(gap: Gap, labels: dict[str, str]) -> str:
    """Return how a gap splits between stem and SE."""
    total = gap.total.interval
    text = f"Of the {points(total.estimate)} points between {labels[gap.plain.key]}"
    text += f" and {labels[gap.full.key]}"
    if not gap.shares:
        return f"{text}, none can be credited: {gap.note}."
    parts = [
        f"the {share.name} explains" if share.name == "stem" else f"{share.name} explains"
        for share in gap.shares
    ]
    told = [
        f"{part} {points(share.difference.interval.estimate)}"
        f" ({points(share.difference.interval.low)} to {points(share.difference.interval.high)}"
        f"{_of_total(share.difference.interval.estimate, total.estimate)})"
        for part, share in zip(parts, gap.shares, strict=True)
    ]
    luck = "; one seed: the luck of training is not in these intervals"
    return f"{text}, {' and '.join(told)}; {gap.note}{luck if gap.total.exploratory else ''}."


def _of_total(part: float, total: float) -> str:
    """Return a share in per cent where it means something: parts of one sign with the whole."""
    share = part / total if total else -1.0
    return f"; {100 * share:.0f} % of the gap" if 0 <= share <= 1 else ""


def choice_sentence(front: Front, choice: Choice, labels: dict[str, str]) -> str:
    """Return what to take within a budget."""
    top1 = choice.cell.top1
    value = f"{100 * top1.value:.1f} %" if top1 else ""
    bound = "up to" if front.axis.less_is_better else "at no less than"
    budget = f"{bound} {number(choice.budget)} {front.axis.unit}"
    name = labels[choice.cell.key]
    return f"{budget}, take {name} ({value}; best within that with {chance(choice.probability)})"
