"""Say of the accuracies that others have published whether ours may stand beside them.

A figure is comparable only to a run on the same data set with the same stem, recipe and epochs;
otherwise the reasons against it are given.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.report.read.published import BEST_ON_TEST, Published, published
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from senet.catalogue import facts

# What no source says of its SE blocks, and what changes next to nothing.
_NOT_TOLD = ("bias", "divisor")


@dataclass(frozen=True)
class Beside:
    """A published figure beside a cell; ``why_not`` is empty exactly if they are comparable."""

    published: Published
    why_not: tuple[str, ...]


@dataclass(frozen=True)
class PublishedGain:
    """What one source says that an attention brings over its plain network, as a fraction."""

    full: Published
    plain: Published

    @property
    def points(self) -> float:
        """Return the difference of top-1, as a fraction."""
        return self.full.top1 - self.plain.top1


def beside(cell: Cell) -> list[Beside]:
    """Return the published figures of a cell's model on its data set or a copy of it.

    Those with the fewest reasons against them come first.
    """
    found = [
        Beside(one, tuple(reasons(cell, one)))
        for one in published()
        if is_of(cell.model, one) and is_copy_of(cell.dataset, one.dataset)
    ]
    return sorted(found, key=lambda b: (len(b.why_not), b.published.source.name, b.published.stem))


def is_of(model: ModelSpec, one: Published) -> bool:
    """Return whether a figure is of this model: of its network, with its attention's options."""
    own = model.attention.changes() if model.attention else {}
    told = {option: value for option, value in own.items() if option not in _NOT_TOLD}
    return one.model == model.name and dict(one.attention) == told


def is_copy_of(label: str, dataset: str) -> bool:
    """Return whether a label speaks of a data set: ``CIFAR-10 (JPEG copy)`` does of CIFAR-10."""
    return re.match(rf"{re.escape(_letters(dataset))}(?!\d)", _letters(label)) is not None


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9(]", "", text.lower())


def reasons(cell: Cell, one: Published) -> list[str]:
    """Return every reason against comparing a cell with a published figure."""
    record, recipe, source = cell.runs[0].record, cell.recipe, one.source
    found = []
    if _letters(cell.dataset) != _letters(one.dataset):
        found.append(f"data are {cell.dataset}, not {one.dataset}")
    if cell.model.stem != one.stem:
        found.append(f"{cell.model.stem or 'their own'} stem here, {one.stem} stem there")
    if cell.model.image_size != one.image_size:
        found.append(f"{cell.model.image_size} pixels here, {one.image_size} there")
    if record.spec.data.train_limit or record.spec.data.test_limit:
        found.append("a part of the images here")
    if source.recipe != recipe.name:
        found.append(f"recipe {recipe.name} here, {source.recipe or 'their own'} there")
    if source.epochs is not None and source.epochs != recipe.epochs:
        found.append(f"{recipe.epochs} epochs here, {source.epochs} there")
    if record.spec.precision not in ("fp32", "tf32"):
        found.append(f"precision {record.spec.precision} here")
    return [*found, *(["best epoch chosen on the test set"] * (source.chosen == BEST_ON_TEST))]


@cache
def published_gains() -> tuple[PublishedGain, ...]:
    """Return every gain that a source tells: an attention and its plain network, trained alike."""
    alike: defaultdict[Hashable, list[Published]] = defaultdict(list)
    for one in published():
        base = facts(one.model).base
        alike[one.source.name, one.dataset, one.stem, one.image_size, base].append(one)
    return tuple(
        PublishedGain(full, plain)
        for group in alike.values()
        for plain in group
        if facts(plain.model).attention == "none"
        for full in group
        if full is not plain
    )


def gains_beside(full: Cell) -> list[PublishedGain]:
    """Return what others say that a cell's attention brings to its network on its data set."""
    return [
        gain
        for gain in published_gains()
        if is_of(full.model, gain.full)
        and gain.full.stem == full.model.stem
        and is_copy_of(full.dataset, gain.full.dataset)
    ]


def options_text(options: tuple[tuple[str, Any], ...]) -> str:
    """Return unusual options of an attention as they are written: ``reduction=4``."""
    return ", ".join(f"{name}={value}" for name, value in options)
