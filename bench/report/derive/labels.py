"""Name models, cells and cost rows: as short as possible, no two alike."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from bench.report.read.models import (
    arguments_text,
    attention_options,
    library_text,
    versions,
)
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec

Key = TypeVar("Key")
_MODEL_FACETS: tuple[Callable[[ModelSpec], object], ...] = (
    lambda m: f"{m.stem} stem" if m.stem else None,
    lambda m: f"r={m.reduction}" if m.se else None,
    lambda m: None if m.se is None else ("bias" if m.se.bias else "no bias"),
    lambda m: f"SE width in {m.se.divisor}s" if m.se else None,
    lambda m: attention_options(m),
    lambda m: arguments_text(m),
    lambda m: library_text(m),
    lambda m: f"architecture {m.origin.architecture[:6]}" if m.origin else None,
    lambda m: f"{m.num_classes} classes",
    lambda m: f"{m.image_size} px",
)
_CELL_FACETS: tuple[Callable[[Cell], object], ...] = (
    lambda c: c.dataset,
    lambda c: c.digest[:6],
    lambda c: c.recipe.name,
    lambda c: f"{c.recipe.epochs} epochs",
    lambda c: f"batch {c.recipe.batch_size}",
    lambda c: f"lr {c.recipe.lr:g}",
    lambda c: f"{c.runs[0].record.spec.val_split:.0%} held out",
    lambda c: f"{c.runs[0].record.spec.engine} loop",
    lambda c: c.runs[0].record.spec.precision,
    lambda c: c.runtime,
    lambda c: c.environment.device,
    lambda c: f"torch {versions(c.environment)['torch']}",
)


def model_labels(models: Sequence[ModelSpec]) -> dict[ModelSpec, str]:
    """Return a label for each model: its name, and of the rest only what tells models apart."""
    facets = [f for f in _MODEL_FACETS if len({f(model) for model in models} - {None}) > 1]
    named = {model: _joined(model.name, (f(model) for f in facets)) for model in models}
    return _numbered(named)


def cell_labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Return a label for each cell's key: its model's, and what tells cells apart."""
    of_model = model_labels(sorted({cell.model for cell in cells}, key=repr))
    facets = [f for f in _CELL_FACETS if len({f(cell) for cell in cells}) > 1]
    named = {cell.key: _joined(of_model[cell.model], (f(cell) for f in facets)) for cell in cells}
    return _numbered(_told_apart(named))


def _told_apart(labels: dict[str, str]) -> dict[str, str]:
    """Return labels that are alike with what else of their keys, which are JSON, differs."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for key, label in labels.items():
        alike[label].append(key)
    told = dict(labels)
    for label, keys in alike.items():
        facts = [dict(_flat(json.loads(key))) for key in keys] if len(keys) > 1 else []
        names = [n for n in sorted({*chain(*facts)}) if len({repr(f.get(n)) for f in facts}) > 1]
        for key, own in zip(keys, facts, strict=False):
            told[key] = _joined(label, (f"{n.replace('_', ' ')} {own.get(n)}" for n in names[:2]))
    return told


def _flat(facts: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield the innermost values of nested facts by their own names."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            yield from _flat(value, key)
    else:
        yield name, facts


def _joined(name: str, parts: Iterable[object]) -> str:
    return ", ".join([name, *(str(part) for part in parts if part is not None)])


def _numbered(labels: dict[Key, str]) -> dict[Key, str]:
    """Return the labels with a number added to those that are still alike."""
    seen: Counter[str] = Counter()
    numbered = {}
    for key, label in labels.items():
        seen[label] += 1
        numbered[key] = label if seen[label] == 1 else f"{label} #{seen[label]}"
    return numbered
