"""Accuracy against cost: which models are worth taking, and how sure that is.

A model is on the front when no other is at least as accurate and at most as costly, and better in
one of the two. The probability of being on it is the share of draws in which it is: images drawn
once for all models, the luck of training after its standard deviation, costs after their intervals.
Where the luck of training is not known there is no probability, nor where the noise of a cost is
not: one sitting tells nothing of the next.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.report.derive.speed.axes import Axis
from bench.report.read.trained import Cell
from bench.stats.luck import Luck, pooled
from bench.stats.pareto import Floats, on_front, partially_pooled
from bench.stats.times import log_error

NUM_DRAWS = 1000
UNKNOWN_LUCK = "the luck of training is unknown"
UNKNOWN_NOISE = "a cost is of one sitting or training"
LEAST_STEP = math.log(1.05)  # costs nearer to each other than 5 % are no step of cost


@dataclass(frozen=True)
class Place:
    """A cell on the plane of accuracy and cost.

    ``probability`` is that of being on the front; ``points_per_percent`` the percentage points of
    top-1 gained for each per cent of cost on the way from the previous cell of the front, None
    where the costs differ by less than their noise or 5 %.
    """

    cell: Cell
    on_front: bool
    probability: float | None
    points_per_percent: float | None


@dataclass(frozen=True)
class Choice:
    """The cell to take up to a budget of the axis's cost, and how probably it is the best."""

    budget: float
    cell: Cell
    probability: float | None


@dataclass(frozen=True)
class Front:
    """All cells on one axis, the cheapest first, and what to take at which budget.

    ``withheld`` says why there are no probabilities; ``luck`` is what they rest on, where a cell
    has but one seed.
    """

    axis: Axis
    places: tuple[Place, ...]
    choices: tuple[Choice, ...]
    withheld: str = ""
    luck: Luck | None = None


def front(
    cells: Sequence[Cell], axis: Axis, draws: dict[str, Floats], luck: Luck | None = None
) -> Front | None:
    """Return the front of the cells that have this cost; None with fewer than two.

    ``draws`` are those of `accuracy_draws`, which are the same for every cost; empty where the
    luck of training is unknown.
    """
    found = [cell for cell in cells if cell.top1 and cell.key in axis.values]
    if len(found) < 2:
        return None
    ordered = sorted(found, key=lambda cell: (burden_of(axis, cell), cell.key))
    burden = np.array([burden_of(axis, cell) for cell in ordered])
    top1 = np.array([_top1(cell) for cell in ordered])
    errors = cost_errors(axis, [cell.key for cell in ordered])
    withheld = "" if all(cell.key in draws for cell in ordered) else UNKNOWN_LUCK
    withheld = withheld or unknown_noise(errors)
    drawn: tuple[Floats, Floats] | None = None
    chances: list[float | None] = [None] * len(ordered)
    if not withheld:
        accuracies = np.column_stack([draws[cell.key] for cell in ordered])
        drawn = accuracies, burden_draws(burden, errors)
        chances = front_chances(*drawn).tolist()
    member = on_front(top1, burden)
    steps = _points_per_percent(top1, burden, member, errors)
    places = tuple(
        Place(cell, bool(is_on), p, step)
        for cell, is_on, p, step in zip(ordered, member, chances, steps, strict=True)
    )
    choices = tuple(
        Choice(budget, ordered[best], p)
        for budget, best, p in best_within(axis, top1, burden, drawn)
    )
    return Front(axis, places, choices, withheld, luck)


def front_chances(accuracies: Floats, burdens: Floats) -> Floats:
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
    """Return the logarithm of a cell's cost, turned so that less is better."""
    return burden_at(axis, cell.key)


def burden_at(axis: Axis, key: str) -> float:
    """Return the logarithm of the cost under a key, turned so that less is better."""
    log = math.log(axis.values[key].estimate)
    return log if axis.less_is_better else -log


def accuracy_draws(cells: Sequence[Cell], luck: Luck | None) -> dict[str, Floats]:
    """Return joint draws of the cells' accuracies by key, each (NUM_DRAWS,).

    Images are drawn once for all cells that share a test set, for one without predictions on its
    own. The luck of each cell is drawn around that, one
    draw of the standard deviation for all of them where it is pooled. Empty where it is unknown
    and a cell has but one seed. The draws are partially pooled (`bench.stats.pareto`), since the
    best of several is partly the luckiest.
    """
    own = all(cell.seed_spread is not None for cell in cells)
    known = luck if not own else pooled([c.seed_spread for c in cells if c.seed_spread])
    if known is None:
        return {}
    draw = np.random.default_rng(0)
    scale = _scale(draw, known.freedom)
    errors = draw.standard_normal((NUM_DRAWS, len(cells))) * scale[:, None] * known.beyond_images
    errors /= np.sqrt([len(cell.runs) for cell in cells])
    for places in _by_test_images(cells):
        root = np.linalg.cholesky(_covariance([cells[place] for place in places]))
        errors[:, places] += draw.standard_normal((NUM_DRAWS, len(places))) @ root.T
    values = np.array([_top1(cell) for cell in cells])
    pooled_draws = partially_pooled(values, errors)
    return {cell.key: pooled_draws[:, place] for place, cell in enumerate(cells)}


def _covariance(group: Sequence[Cell]) -> Floats:
    """Return the covariance (M, M) of the accuracies over test images, which they share or not."""
    arms = [cell.hits for cell in group if cell.hits is not None]
    if len(arms) < len(group):
        shares = [(_top1(cell), cell.tests[0].num_images) for cell in group]
        covariance = np.diag([share * (1 - share) / count for share, count in shares])
    else:
        means = np.stack([arm.mean(axis=0) for arm in arms])
        covariance = np.atleast_2d(np.cov(means)) / means.shape[1]
    return np.asarray(covariance + 1e-12 * np.eye(len(group)))  # equal models have no root


def _top1(cell: Cell) -> float:
    return cell.top1.value if cell.top1 else 0.0


def _scale(draw: np.random.Generator, freedom: float) -> Floats:
    """Return what turns normal draws into Student's t with a standard deviation in common."""
    if math.isinf(freedom):
        return np.ones(NUM_DRAWS)
    return np.asarray(np.sqrt(freedom / draw.chisquare(freedom, NUM_DRAWS)))


def _by_test_images(cells: Sequence[Cell]) -> list[list[int]]:
    """Return the places of cells by their test images, of those without predictions apart."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, cell in enumerate(cells):
        groups["" if cell.hits is None else cell.test_set or ""].append(place)
    return list(groups.values())


def cost_errors(axis: Axis, keys: Sequence[str]) -> Floats:
    """Return the standard errors of the costs' logarithms: 0 if counted, infinite if unknown."""
    found = [log_error(axis.values[key]) for key in keys]
    return np.array([math.inf if error is None else error for error in found])


def unknown_noise(errors: Floats) -> str:
    """Return why costs with these errors give no chance of anything; nothing where they do."""
    return "" if np.isfinite(errors).all() else UNKNOWN_NOISE


def burden_draws(burden: Floats, errors: Floats) -> Floats:
    """Return draws (NUM_DRAWS, M) of what M costs are, as logarithms."""
    noise = np.random.default_rng(2).standard_normal((NUM_DRAWS, len(burden)))
    return np.asarray(burden + errors * noise)


def _points_per_percent(
    top1: Floats, burden: Floats, member: NDArray[np.bool_], errors: Floats
) -> list[float | None]:
    """Return, for each cell of the front but the first, points gained per cent of cost added."""
    steps: list[float | None] = [None] * len(top1)
    places = np.flatnonzero(member)
    for before, after in pairwise(places):
        added = float(burden[after] - burden[before])
        if added > max(LEAST_STEP, 1.96 * math.hypot(errors[before], errors[after])):
            steps[after] = float(top1[after] - top1[before]) / math.expm1(added)
    return steps


def best_within(
    axis: Axis, top1: Floats, burden: Floats, drawn: tuple[Floats, Floats] | None
) -> list[tuple[float, int, float | None]]:
    """Return (budget, place, chance) of what to take at each round budget, the tightest first.

    Once for each change of the answer. The chance is that of being within the budget, and the most
    accurate of those that are, in joint draws of accuracies and burdens; None without any.
    """
    budgets = round_budgets([value.estimate for value in axis.values.values()])
    found: list[tuple[float, int, float | None]] = []
    for budget in budgets if axis.less_is_better else budgets[::-1]:
        limit = (math.log(budget) if axis.less_is_better else -math.log(budget)) + 1e-12
        within = np.flatnonzero(burden <= limit)
        best = int(within[np.argmax(top1[within])]) if len(within) else None
        if best is not None and (not found or found[-1][1] != best):
            chance = None if drawn is None else chance_of(best, drawn[0], drawn[1] <= limit)
            found.append((budget, best, chance))
    return found


def chance_of(best: int, accuracies: Floats, fits: NDArray[np.bool_]) -> float:
    """Return in what share of draws (D, M) the ``best`` fits and is the most accurate that does."""
    wins = np.where(fits, accuracies, -np.inf).argmax(axis=1)
    return float((fits[:, best] & (wins == best)).mean())


def round_budgets(values: Sequence[float]) -> list[float]:
    """Return 1, 2, 5, 10 … from the largest not above the values to the smallest not below."""
    low, high = min(values), max(values)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    grid = [step * 10.0**e for e in exponents for step in (1, 2, 5)]
    first = max(value for value in grid if value <= low)
    last = min(value for value in grid if value >= high)
    return [value for value in grid if first <= value <= last]
