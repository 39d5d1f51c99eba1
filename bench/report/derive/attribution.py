"""Say which factor caused a difference: attention, stem, depth, width, recipe; and what it costs.

An effect is the mean difference over all contexts in which two cells differ in that factor alone;
an interaction the mean difference of such differences. Both are contrasts of cells, so that
designs with holes need no model: what no two runs separate is reported as not separable.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.derive.conditions import accuracy_conditions
from bench.report.derive.seeds import SeedLuck
from bench.report.derive.speed.axes import Axis, cost_axes
from bench.report.derive.speed.ratios import time_ratio
from bench.report.read.models import attention_title, depth, family, width
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.recipe import Recipe
from bench.stats import accuracy
from bench.stats.accuracy import Difference, share_of
from bench.stats.decide import Finding, finding
from bench.stats.luck import Luck
from bench.stats.times import Interval, log_error, product

Level = Any
MAX_GAPS = 12  # more are told in no verdict


def _recipe(cell: Cell) -> Level:
    recipe = cell.recipe
    return f"{recipe.name}, {recipe.epochs} epochs, lr {recipe.lr:g}, batch {recipe.batch_size}"


# Levels are sorted as numbers, then as text; `imagenet` is put before `cifar`, `none` first of all.
FACTORS: dict[str, Callable[[Cell], Level]] = {
    "stem": lambda cell: cell.model.stem or "its own",
    "attention": lambda cell: attention_title(cell.model),
    "depth": lambda cell: depth(cell.model) or 0,
    "width": lambda cell: width(cell.model) or 0,
    "recipe": _recipe,
}
_FIRST = {"imagenet": 0, "none": 0}


@dataclass(frozen=True)
class Term:
    """A contrast of cells (by place in a list) with weights that add up to zero.

    ``contexts`` of a main effect are the pairs of cells, before and after the change; an
    interaction has none.
    """

    name: str
    change: str
    cells: tuple[int, ...]
    weights: tuple[float, ...]
    num_contexts: int
    contexts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Effect:
    """What a factor or an interaction does to accuracy (fractions) and to each cost (ratios).

    ``costs`` maps an axis name to the cost's factor; ``p_family`` is Holm's over the
    ``family_size`` tests of the data set (`findings`), ``p_same`` that of equivalence within the
    margin. ``keys`` are those of the cells.
    """

    term: Term
    top1: Difference | None
    costs: dict[str, Interval]
    p_family: float | None = None
    p_same: float | None = None
    family_size: int = 0
    keys: tuple[str, ...] = ()

    @property
    def is_interaction(self) -> bool:
        """Tell whether it is how much one factor's effect changes with another."""
        return not self.term.contexts

    @property
    def finding(self) -> Finding:
        """Return what may be said of the effect on accuracy."""
        if self.top1 is None:
            return "not resolved"
        return finding(self.top1.interval.estimate, self.p_family, self.p_same)


@dataclass(frozen=True)
class Share:
    """A part of a gap, in fractions of accuracy, and what share ``of_gap`` it is."""

    name: str
    difference: Difference
    of_gap: Interval


@dataclass(frozen=True)
class Gap:
    """How the accuracy gap between two cells that differ in stem and attention splits.

    With all four corners measured each share is the mean over both orders of changing one factor
    after the other (Shapley's value), and the shares add up to the gap. With one corner missing,
    only the order through the other corner is known; with both, nothing can be told apart.
    A gap that is not ``resolved``, by its p-value in the data set's family (`findings`), is not
    split.
    """

    plain: Cell
    full: Cell
    total: Difference
    shares: tuple[Share, ...]
    note: str
    p_family: float | None = None

    @property
    def resolved(self) -> bool:
        """Return whether there is a gap at all."""
        return finding(self.total.interval.estimate, self.p_family, None) != "not resolved"


@dataclass(frozen=True)
class Attribution:
    """All effects on one data set, the gaps explained, and the factors that nothing separates."""

    dataset: str
    axes: tuple[Axis, ...]
    effects: tuple[Effect, ...]
    gaps: tuple[Gap, ...]
    inseparable: tuple[str, ...]


def attributions(study: Study, luck: SeedLuck) -> list[Attribution]:
    """Return the attribution of each data set on which any two cells differ in a factor.

    Nothing is judged yet.
    """
    found = []
    for group in _comparable(study.cells):
        terms = _terms(group)
        axes = tuple(cost_axes(study, group))
        effects = [_effect(term, group, axes, luck) for term in terms]
        gaps = tuple(_gaps(group, luck))
        if effects or gaps:
            varying = [n for n, of in FACTORS.items() if len({of(cell) for cell in group}) > 1]
            stuck = tuple(name for name in varying if name not in {term.name for term in terms})
            found.append(Attribution(group[0].dataset, axes, tuple(effects), gaps, stuck))
    return found


def _comparable(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return groups of cells under equal conditions but for the recipe, which is a factor."""
    groups: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.top1 is None or not cell.has_learnt:
            continue
        conditions = accuracy_conditions(cell)
        kept = {k: v for k, v in conditions.items() if k not in Recipe.model_fields}
        kept.pop("recipe")
        training = (cell.environment.device_name, cell.runs[0].record.spec.runtime)
        groups[repr((kept, training, family(cell.model), cell.test_set))].append(cell)
    return [group for group in groups.values() if len(group) > 1]


def _context(cell: Cell, without: Sequence[str]) -> str:
    """Return everything about a cell but some factors."""
    levels = {name: of(cell) for name, of in FACTORS.items() if name not in without}
    recipe = None if "recipe" in without else cell.recipe.model_dump_json()
    return repr((levels, recipe, cell.model.num_classes, cell.model.arguments))


def _levels(cells: Sequence[Cell], factor: str) -> list[Level]:
    """Return a factor's levels, the plainer first."""
    of = FACTORS[factor]
    return sorted({of(cell) for cell in cells}, key=lambda v: (_FIRST.get(str(v), 1), _natural(v)))


def _natural(level: Level) -> tuple[float, str]:
    digits = "".join(c for c in str(level) if c.isdigit())
    return (float(digits[:9] or 0), str(level))


def _changes(cells: Sequence[Cell], factor: str) -> list[tuple[Level, Level]]:
    """Return the changes of a factor that are asked about: from each level to the next.

    Every attention is set against none, and every ablation of SE against SE as it is.
    """
    levels = _levels(cells, factor)
    if factor != "attention":
        return list(itertools.pairwise(levels))
    ablated = [("SE", level) for level in levels if str(level).startswith("SE (")]
    from_se = ablated if "SE" in levels else []
    if "none" in levels:
        return [("none", level) for level in levels if level != "none"] + from_se
    return from_se or list(itertools.pairwise(levels))


def _terms(cells: Sequence[Cell]) -> list[Term]:
    """Return the effects of single factors, then how two of them interact."""
    terms = []
    for factors in [*((factor,) for factor in FACTORS), *itertools.combinations(FACTORS, 2)]:
        for changes in itertools.product(*(_changes(cells, factor) for factor in factors)):
            told = ", ".join(f"{low} → {high}" for low, high in changes)
            wanted = [(f, *change) for f, change in zip(factors, changes, strict=True)]
            if corners := _corners(cells, wanted):
                terms.append(_term(" × ".join(factors), told, corners))
    return terms


Corner = dict[int, float]


def _corners(cells: Sequence[Cell], changes: list[tuple[str, Level, Level]]) -> list[Corner]:
    """Return, for each context that has all corners of the changes, their cells and signs."""
    factors = [factor for factor, _, _ in changes]
    signs = [{low: -1.0, high: 1.0} for _, low, high in changes]
    contexts: defaultdict[str, Corner] = defaultdict(dict)
    seen: defaultdict[str, set[tuple[Level, ...]]] = defaultdict(set)
    for place, cell in enumerate(cells):
        levels = tuple(FACTORS[factor](cell) for factor in factors)
        if all(level in sign for level, sign in zip(levels, signs, strict=True)):
            context = _context(cell, factors)
            if levels not in seen[context]:
                seen[context].add(levels)
                signed = (sign[level] for level, sign in zip(levels, signs, strict=True))
                contexts[context][place] = math.prod(signed)
    return [corner for corner in contexts.values() if len(corner) == 2 ** len(changes)]


def _term(name: str, change: str, corners: list[Corner]) -> Term:
    weights: defaultdict[int, float] = defaultdict(float)
    for corner in corners:
        for place, sign in corner.items():
            weights[place] += sign / len(corners)
    used = {place: weight for place, weight in sorted(weights.items()) if weight}
    pairs = [sorted(corner, key=lambda place: corner[place]) for corner in corners]
    contexts = tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2)
    return Term(name, change, tuple(used), tuple(used.values()), len(corners), contexts)


def _effect(term: Term, cells: Sequence[Cell], axes: Sequence[Axis], luck: SeedLuck) -> Effect:
    chosen = [cells[place] for place in term.cells]
    costs = {axis.name: ratio for axis in axes if (ratio := _cost_ratio(term, cells, axis))}
    top1 = _contrast(chosen, term.weights, luck.of(chosen))
    return Effect(term, top1, costs, keys=tuple(cell.key for cell in chosen))


def _contrast(
    cells: Sequence[Cell], weights: Sequence[float], luck: Luck | None
) -> Difference | None:
    """Return a contrast of accuracies; None unless all cells have predictions on one test set."""
    used = [(cell, cell.hits, w) for cell, w in zip(cells, weights, strict=True) if w]
    arms = [hits for _, hits, _ in used if hits is not None]
    if len(arms) < len(used) or len({cell.test_set for cell, *_ in used}) != 1:
        return None
    found = accuracy.contrast(arms, [weight for *_, weight in used], luck)
    return found.at_look(max(cell.looks for cell, *_ in used))


def _cost_ratio(term: Term, cells: Sequence[Cell], axis: Axis) -> Interval | None:
    """Return the factor on a cost: the geometric mean over contexts, errors added in squares."""
    if term.contexts and axis.rows:
        return _timed_ratio(term, cells, axis)
    values = [axis.values.get(cells[place].key) for place in term.cells]
    known = [value for value in values if value is not None and value.estimate > 0]
    if len(known) < len(values) or any(log_error(value) is None for value in known):
        return None
    return product(known, term.weights)


def _timed_ratio(term: Term, cells: Sequence[Cell], axis: Axis) -> Interval | None:
    """Return the factor on a time or a rate from rows that took turns, context by context.

    Open where one was timed in too few sittings: what holds within one is averaged with nothing.
    """
    ratios = []
    for before, after in term.contexts:
        base, row = (axis.rows.get(cells[place].key) for place in (before, after))
        ratio = time_ratio(row, base) if row and base else None
        if ratio is None:
            return None
        ratios.append(ratio.interval if ratio.replicated else replace(ratio.interval, low=0.0))
    sign = 1.0 if axis.less_is_better else -1.0  # a rate falls as the time of a call grows
    return product(ratios, [sign / len(ratios)] * len(ratios))


def _gaps(cells: Sequence[Cell], luck: SeedLuck) -> list[Gap]:
    """Explain every gap between a plain ImageNet-stem cell and a CIFAR-stem one with attention."""
    contexts: defaultdict[str, dict[tuple[str, str], Cell]] = defaultdict(dict)
    for cell in cells:
        corner = (cell.model.stem or "", attention_title(cell.model))
        contexts[_context(cell, ["stem", "attention"])].setdefault(corner, cell)
    gaps = [
        _gap(plain, full, corners.get(("cifar", "none")), corners.get(("imagenet", own)), luck)
        for corners in contexts.values()
        for (stem, own), full in corners.items()
        if (plain := corners.get(("imagenet", "none"))) and stem == "cifar" and own != "none"
    ]
    return [gap for gap in gaps if gap][:MAX_GAPS]


def _gap(
    plain: Cell, full: Cell, stem_only: Cell | None, own_only: Cell | None, seed_luck: SeedLuck
) -> Gap | None:
    """Return how the gap splits; ``own_only`` has the attention alone, ``stem_only`` the stem."""
    luck = seed_luck.of([plain, full])
    total = _contrast([plain, full], [-1.0, 1.0], luck)
    if total is None:
        return None
    own = attention_title(full.model)
    if stem_only and own_only:
        corners = [plain, stem_only, own_only, full]
        parts = {"stem": [-0.5, 0.5, -0.5, 0.5], own: [-0.5, -0.5, 0.5, 0.5]}
        note = "mean over both orders"
    elif stem_only:
        corners = [plain, stem_only, full]
        parts = {"stem": [-1.0, 1.0, 0.0], own: [0.0, -1.0, 1.0]}
        note = f"stem changed first; {own} with the ImageNet stem was not trained"
    elif own_only:
        corners = [plain, own_only, full]
        parts = {own: [-1.0, 1.0, 0.0], "stem": [0.0, -1.0, 1.0]}
        note = f"{own} changed first; the CIFAR stem without {own} was not trained"
    else:
        note = f"stem and {own} changed together and cannot be told apart"
        return Gap(plain, full, total, (), note)
    first, second = parts.values()
    one, two = (_contrast(corners, weights, luck) for weights in (first, second))
    if one is None or two is None or not total.interval.estimate:
        return Gap(plain, full, total, (), note)
    share = one.interval.estimate / total.interval.estimate
    # The first less its share of the whole, and as well, but for the sign, the second less its own.
    beside = [(1 - share) * a - share * b for a, b in zip(first, second, strict=True)]
    off = _contrast(corners, beside, luck)
    assert off is not None
    of_gap = (share_of(*both, total, off.freedom) for both in ((one, two), (two, one)))
    return Gap(plain, full, total, tuple(map(Share, parts, (one, two), of_gap)), note)
