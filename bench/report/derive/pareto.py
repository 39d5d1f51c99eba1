"""Accuracy against cost: which models are worth taking, and how sure that is.

A model is on the front when no other is at least as accurate and at most as costly, and better in
one of the two. The probability of being on it is the share of bootstrap draws in which it is:
images drawn once for all models, seeds and costs drawn after their intervals.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.report.derive.axes import Axis
from bench.report.read.trained import Cell
from bench.stats.accuracy import seed_error
from bench.stats.pareto import Floats, on_front
from bench.stats.times import log_error

NUM_DRAWS = 1000


@dataclass(frozen=True)
class Place:
    """A cell on the plane of accuracy and cost.

    ``probability`` is that of being on the front; ``points_per_percent`` the percentage points of
    top-1 gained for each per cent of cost on the way from the previous cell of the front.
    """

    cell: Cell
    on_front: bool
    probability: float
    points_per_percent: float | None


@dataclass(frozen=True)
class Choice:
    """The cell to take up to a budget of the axis's cost, and how probably it is the best."""

    budget: float
    cell: Cell
    probability: float


@dataclass(frozen=True)
class Front:
    """All cells on one axis, the cheapest first, and what to take at which budget."""

    axis: Axis
    places: tuple[Place, ...]
    choices: tuple[Choice, ...]


def front(cells: Sequence[Cell], axis: Axis, draws: dict[str, Floats]) -> Front | None:
    """Return the front of the cells that have this cost; None with fewer than two.

    ``draws`` are those of `accuracy_draws`, which are the same for every cost.
    """
    found = [cell for cell in cells if cell.top1 and cell.key in axis.values]
    if len(found) < 2:
        return None
    ordered = sorted(found, key=lambda cell: (burden_of(axis, cell), cell.key))
    burden = np.array([burden_of(axis, cell) for cell in ordered])
    top1 = np.array([cell.top1.value if cell.top1 else 0.0 for cell in ordered])
    accuracies = np.column_stack([draws[cell.key] for cell in ordered])
    probability = _probability(accuracies, _burden_draws(axis, ordered))
    member = on_front(top1, burden)
    steps = _points_per_percent(top1, burden, member)
    places = tuple(
        Place(cell, bool(is_on), float(p), step)
        for cell, is_on, p, step in zip(ordered, member, probability, steps, strict=True)
    )
    return Front(axis, places, _choices(axis, ordered, top1, burden, accuracies))


def _probability(accuracies: Floats, burdens: Floats) -> Floats:
    """Return the share of draws in which each model is on the front, a part of them at a time."""
    num_models = accuracies.shape[1]
    parts = max(1, NUM_DRAWS * num_models**2 // 4_000_000)
    counts = np.zeros(num_models)
    for top1, burden in zip(
        np.array_split(accuracies, parts), np.array_split(burdens, parts), strict=True
    ):
        counts += on_front(top1, burden).sum(axis=0)
    return counts / len(accuracies)


def burden_of(axis: Axis, cell: Cell) -> float:
    """Return the logarithm of a cost, turned so that less is better."""
    log = math.log(axis.values[cell.key].estimate)
    return log if axis.less_is_better else -log


def accuracy_draws(cells: Sequence[Cell]) -> dict[str, Floats]:
    """Return joint draws of the cells' accuracies by key, each (NUM_DRAWS,).

    Images are drawn once for all cells that share a test set; a cell without predictions is drawn
    from the normal distribution of its counts.
    """
    draw = np.random.default_rng(0)
    draws: dict[str, Floats] = {}
    for num_images, group in _by_test_images(cells).items():
        if num_images:
            means = np.stack([c.hits.mean(axis=0) for c in group if c.hits is not None], axis=1)
            joint = _resampled(means.astype(np.float32), num_images)
        for place, cell in enumerate(group):
            mean, hits = cell.top1.value if cell.top1 else 0.0, cell.hits
            if hits is None:
                error = math.sqrt(mean * (1 - mean) / cell.tests[0].num_images)
                draws[cell.key] = mean + error * draw.standard_normal(NUM_DRAWS)
            else:
                luck = seed_error(hits) * _student(draw, len(hits) - 1)
                draws[cell.key] = joint[:, place] + luck
    return draws


def _by_test_images(cells: Sequence[Cell]) -> dict[int, list[Cell]]:
    """Return the cells by their number of test images; under 0 those without predictions."""
    groups: defaultdict[int, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[0 if cell.hits is None else cell.hits.shape[1]].append(cell)
    return groups


def _resampled(means: NDArray[np.float32], num_images: int) -> Floats:
    """Return the means over resampled images, (NUM_DRAWS, M), of values (N, M)."""
    draw = np.random.default_rng(1)
    result = np.empty((NUM_DRAWS, means.shape[1]))
    for rows in np.array_split(np.arange(NUM_DRAWS), 10):
        chosen = draw.integers(0, num_images, (len(rows), num_images))
        weights = np.empty(chosen.shape, dtype=np.float32)
        for place, images in enumerate(chosen):
            weights[place] = np.bincount(images, minlength=num_images)
        result[rows] = weights @ means / num_images
    return result


def _student(draw: np.random.Generator, freedom: int) -> Floats:
    return draw.standard_t(freedom, NUM_DRAWS) if freedom > 0 else np.zeros(NUM_DRAWS)


def _burden_draws(axis: Axis, cells: Sequence[Cell]) -> Floats:
    draw = np.random.default_rng(2)
    errors = [log_error(axis.values[cell.key]) or 0.0 for cell in cells]
    means = np.array([burden_of(axis, cell) for cell in cells])
    return np.asarray(means + np.array(errors) * draw.standard_normal((NUM_DRAWS, len(cells))))


def _points_per_percent(
    top1: Floats, burden: Floats, member: NDArray[np.bool_]
) -> list[float | None]:
    """Return, for each cell of the front but the first, points gained per cent of cost added."""
    steps: list[float | None] = [None] * len(top1)
    places = np.flatnonzero(member)
    for before, after in pairwise(places):
        added = 100 * math.expm1(burden[after] - burden[before])
        steps[after] = 100 * float(top1[after] - top1[before]) / added if added > 0 else None
    return steps


def _choices(
    axis: Axis, cells: Sequence[Cell], top1: Floats, burden: Floats, accuracies: Floats
) -> tuple[Choice, ...]:
    """Return what to take at each round budget, once for each change of the answer."""
    choices: list[Choice] = []
    for budget in round_budgets([axis.values[cell.key].estimate for cell in cells]):
        limit = math.log(budget) if axis.less_is_better else -math.log(budget)
        within = np.flatnonzero(burden <= limit + 1e-12)
        if len(within) == 0:
            continue
        best = int(within[np.argmax(top1[within])])
        wins = accuracies[:, within].argmax(axis=1)
        probability = float((within[wins] == best).mean())
        choices.append(Choice(budget, cells[best], probability))
    return tuple(_changes(choices if axis.less_is_better else choices[::-1]))


def _changes(choices: Sequence[Choice]) -> list[Choice]:
    kept: list[Choice] = []
    for choice in choices:
        if not kept or kept[-1].cell.key != choice.cell.key:
            kept.append(choice)
    return kept


def round_budgets(values: Sequence[float]) -> list[float]:
    """Return 1, 2, 5, 10 … from the largest not above the values to the smallest not below."""
    low, high = min(values), max(values)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    grid = [step * 10.0**e for e in exponents for step in (1, 2, 5)]
    first = max(value for value in grid if value <= low)
    last = min(value for value in grid if value >= high)
    return [value for value in grid if first <= value <= last]
