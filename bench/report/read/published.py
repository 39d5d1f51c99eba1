"""Read the accuracies that others have published, from the file that says where each stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BEST_ON_TEST = "best epoch on the test set"


@dataclass(frozen=True)
class Source:
    """Who published, where it was read, and how the networks were trained.

    ``recipe`` is the name of the recipe here that is the same, ``runs`` the number of trainings
    that a figure is the mean of, ``chosen`` which epoch was tested; None where nothing is said.
    """

    name: str
    where: str
    url: str
    training: str
    epochs: int | None = None
    recipe: str | None = None
    runs: int | None = None
    chosen: str | None = None


@dataclass(frozen=True)
class Published:
    """One published accuracy: top-1, top-5 and the spread over runs as fractions.

    ``attention`` are the options of the model's attention that are not usual, by name.
    """

    source: Source
    model: str
    stem: str
    dataset: str
    image_size: int
    top1: float
    top5: float | None = None
    sd: float | None = None
    attention: tuple[tuple[str, Any], ...] = ()

    @property
    def told(self) -> str:
        """Return how the figure came about: its runs, its epoch, its spread."""
        source = self.source
        runs = {None: "runs not stated", 1: "one run"}.get(source.runs, f"{source.runs} runs")
        spread = "" if self.sd is None else f", sd {100 * self.sd:.2g}"
        epochs = "epochs not stated" if source.epochs is None else f"{source.epochs} epochs"
        chosen = source.chosen or "choice of the epoch not stated"
        return f"{epochs}, {runs}{spread}, {chosen}"


@cache
def published() -> tuple[Published, ...]:
    """Return every published figure, source by source."""
    text = resources.files("bench.report.read").joinpath("published.toml").read_text("utf-8")
    return tuple(
        figure
        for facts in tomllib.loads(text)["source"]
        for table in facts.pop("table")
        for figure in _figures(Source(**facts), table)
    )


def _figures(source: Source, table: Mapping[str, Any]) -> Iterator[Published]:
    """Yield the figures of one table, of which either errors or accuracies are given."""
    wrong = "error" in table
    for model, (first, *rest) in table["error" if wrong else "top1"].items():
        top1, *top5 = ((100 - value if wrong else value) / 100 for value in (first, *rest))
        sd = table.get("sd", {}).get(model)
        options = table.get("attention", {})
        yield Published(
            source,
            model,
            table["stem"],
            table["dataset"],
            table["image_size"],
            round(top1, 6),
            round(top5[0], 6) if top5 else None,
            None if sd is None else sd / 100,
            tuple(sorted((name, _frozen(value)) for name, value in options.items())),
        )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
