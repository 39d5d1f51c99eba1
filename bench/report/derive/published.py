"""Accuracies that others have published for these models, and whether ours may stand beside them.

Every entry names its source. A figure is comparable only to a run on the same data set with the
same stem, recipe and epochs; otherwise the reasons against it are given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.report.read.trained import Cell


@dataclass(frozen=True)
class Published:
    """One published accuracy: top-1 and top-5 as fractions, and how they came about.

    ``recipe`` is the name of the recipe here that is the same, None where none is. ``caveats`` are
    reasons against any comparison.
    """

    source: str
    model: str
    stem: str
    dataset: str
    top1: float
    top5: float | None = None
    recipe: str | None = None
    epochs: int | None = None
    caveats: tuple[str, ...] = ()


_ORIGIN = "PappaLaity/SENet-50"
_MMPRETRAIN = "mmpretrain model zoo"
_WEIAICUNZAI = "weiaicunzai/pytorch-cifar100"
_PAPER = "Hu et al., arXiv 1709.01507"
_BEST_EPOCH = ("best epoch chosen on the test set",)
PUBLISHED: tuple[Published, ...] = (
    # 100 epochs, batch 128, no augmentation, accuracy after the last epoch, one run.
    *(
        Published(_ORIGIN, model, stem, dataset, top1, recipe="reference", epochs=100)
        for model, stem, dataset, top1 in (
            ("resnet50", "imagenet", "CIFAR-10", 0.8005),
            ("resnet101", "imagenet", "CIFAR-10", 0.7817),
            ("se_resnet50", "cifar", "CIFAR-10", 0.8852),
            ("resnet50", "imagenet", "CIFAR-100", 0.4846),
            ("resnet101", "imagenet", "CIFAR-100", 0.4845),
            ("se_resnet50", "cifar", "CIFAR-100", 0.6393),
        )
    ),
    *(
        Published(_MMPRETRAIN, model, "cifar", dataset, top1, top5)
        for model, dataset, top1, top5 in (
            ("resnet18", "CIFAR-10", 0.9482, None),
            ("resnet50", "CIFAR-10", 0.9555, None),
            ("resnet101", "CIFAR-10", 0.9558, None),
            ("resnet50", "CIFAR-100", 0.7990, 0.9519),
        )
    ),
    *(
        Published(_WEIAICUNZAI, model, "cifar", "CIFAR-100", top1, top5, caveats=_BEST_EPOCH)
        for model, top1, top5 in (
            ("resnet18", 0.7561, 0.9305),
            ("resnet50", 0.7739, 0.9396),
            ("resnet101", 0.7778, 0.9439),
            ("se_resnet18", 0.7644, 0.9332),
            ("se_resnet50", 0.7858, 0.9442),
            ("se_resnet101", 0.7902, 0.9459),
        )
    ),
    *(
        Published(_PAPER, model, "imagenet", "ImageNet", top1, top5)
        for model, top1, top5 in (
            ("resnet50", 0.7520, 0.9252),
            ("se_resnet50", 0.7671, 0.9338),
            ("resnet101", 0.7683, 0.9348),
            ("se_resnet101", 0.7762, 0.9393),
        )
    ),
)


@dataclass(frozen=True)
class Beside:
    """A published figure beside a cell; ``why_not`` is empty exactly if they are comparable."""

    published: Published
    why_not: tuple[str, ...]


def beside(cell: Cell) -> list[Beside]:
    """Return the published figures of a cell's model on its data set or a copy of it.

    Those with the fewest reasons against them come first.
    """
    found = [
        Beside(one, tuple(_reasons(cell, one)))
        for one in PUBLISHED
        if one.model == cell.model.name and is_copy_of(cell.dataset, one.dataset)
    ]
    return sorted(found, key=lambda b: (len(b.why_not), b.published.source, b.published.stem))


def is_copy_of(label: str, dataset: str) -> bool:
    """Return whether a label speaks of a data set: ``CIFAR-10 (JPEG copy)`` does of CIFAR-10."""
    return re.match(rf"{re.escape(_letters(dataset))}(?!\d)", _letters(label)) is not None


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9(]", "", text.lower())


def _reasons(cell: Cell, one: Published) -> list[str]:
    """Return every reason against comparing a cell with a published figure."""
    record, recipe = cell.runs[0].record, cell.recipe
    reasons = []
    if _letters(cell.dataset) != _letters(one.dataset):
        reasons.append(f"data are {cell.dataset}, not {one.dataset}")
    if cell.model.stem != one.stem:
        reasons.append(f"{cell.model.stem or 'their own'} stem here, {one.stem} stem there")
    if record.spec.data.train_limit or record.spec.data.test_limit:
        reasons.append("a part of the images here")
    if one.recipe != recipe.name:
        reasons.append(f"recipe {recipe.name} here, {one.recipe or 'their own'} there")
    if one.epochs is not None and one.epochs != recipe.epochs:
        reasons.append(f"{recipe.epochs} epochs here, {one.epochs} there")
    if record.spec.precision not in ("fp32", "tf32"):
        reasons.append(f"precision {record.spec.precision} here")
    return [*reasons, *one.caveats]
