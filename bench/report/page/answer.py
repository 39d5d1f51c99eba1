"""The answer in three sentences, for who reads nothing else: is it better, why, at what cost."""

from __future__ import annotations

from bench.report.derive.findings import Findings
from bench.report.derive.pairs import Pair
from bench.report.page.formats import count
from bench.report.page.verdict import Item, costs, gaps
from bench.report.page.wording import verdict


def answer(found: Findings) -> list[Item]:
    """Return at most three lines, each with its lead; fewer where something was not measured.

    The pair that differs in attention alone and was trained longest and with most seeds speaks for
    accuracy, the largest gap between two stems for its causes, one image for its cost.
    """
    alone = [
        pair
        for pair in found.pairs.pairs
        if pair.factors == ("attention",) and pair.difference and not pair.mismatches
    ]
    told = [_accuracy(max(alone, key=_weight), found)] if alone else []
    return [*told, *gaps(found)[:1], *costs(found)[:1]]


def _weight(pair: Pair) -> tuple[bool, int, int]:
    first, second = pair.first, pair.second
    is_judged = pair.difference is not None and pair.difference.luck is not None
    return (is_judged, first.recipe.epochs, len(first.runs) + len(second.runs))


def _accuracy(pair: Pair, found: Findings) -> Item:
    """Return the verdict on a pair behind the data, the epochs and the seeds that it rests on."""
    seeds = sorted({len(pair.first.runs), len(pair.second.runs)})
    trained = f"{count(pair.first.recipe.epochs, 'epoch')}, "
    trained += " and ".join(count(number, "seed") for number in seeds)
    lead = f"Accuracy, {pair.first.dataset}, {trained}:"
    return (lead, verdict(pair, found.labels, found.stated.margin))
