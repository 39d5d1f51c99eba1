"""Why an experiment has as many seeds as it has."""

from __future__ import annotations

from bench.record.seeds import Asked, SeedsRecord
from bench.report.derive.labels import model_labels
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph
from bench.report.page.formats import points
from bench.report.read.study import Study

WHY = {
    "decided": "its sign is decided",
    "narrow": "the interval is narrow enough",
    "hidden": "the test images alone leave more than that, whatever is trained",
    "most seeds": "not decided with the most seeds that were allowed",
    "go on": "not decided yet",
}


def seeds(study: Study) -> list[Block]:
    """Return how many seeds each question needed and why it got no more; nothing if unasked."""
    blocks: list[Block] = []
    for record in study.seeds:
        blocks += [Paragraph(_rule(record)), Bullets(tuple(_lines(record)))]
    return [Heading("Seeds"), *blocks] if blocks else []


def _rule(record: SeedsRecord) -> str:
    looks = ", ".join(map(str, record.looks))
    return (
        f"Seeds were added until a difference had a sign or an interval of ±{points(record.wanted)}"
        f" points, at most {record.most_seeds} a model. Looks with {looks} seeds a model: the"
        " intervals hold in 95 % of experiments for all differences at all looks together (each"
        " look spends a part of the level, Lan and DeMets 1983)."
    )


def _lines(record: SeedsRecord) -> list[tuple[str, str]]:
    names = model_labels([model for one in record.asked for model in (one.first, one.second)])
    return [
        (f"{names[one.second]} against {names[one.first]}:", _line(one)) for one in record.asked
    ]


def _line(one: Asked) -> str:
    if one.estimate is None or one.half_width is None:
        return f"not comparable: {one.why}."
    told = f"{points(one.estimate, sign=True)} ± {points(one.half_width)} points"
    return f"{told} by {one.num_seeds} seeds each; {WHY[one.stopped]}."
