"""Compare trained models in pairs on the same test images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bench.report.derive.conditions import Mismatch, accuracy_conditions, mismatches
from bench.report.read.models import depth, has_se
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats import accuracy
from bench.stats.accuracy import Difference

LEVEL = 0.05
# Up to this many models every pair is compared; beyond, twins and the best against the rest.
MAX_ALL_PAIRS = 8
MAX_PAIRS = 60


@dataclass(frozen=True)
class Pair:
    """Two cells and how much better the second is; ``p_family`` is Holm's over the family.

    ``mismatches`` are conditions on which they differ: the difference is then withheld (None), or
    forced and outside the family. ``factors`` are what tells the models apart.
    """

    first: Cell
    second: Cell
    factors: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]
    difference: Difference | None
    p_family: float | None = None
    family_size: int = 0

    @property
    def resolved(self) -> bool:
        """Return whether the difference is one: significant in its family, 0 outside its ends."""
        found = self.difference
        if found is None or self.p_family is None:
            return False
        return self.p_family < LEVEL and not found.interval.contains(0.0)


@dataclass(frozen=True)
class Pairs:
    """The compared pairs of all data sets, the withheld ones, and how many were left out."""

    pairs: tuple[Pair, ...]
    withheld: tuple[Pair, ...]
    num_left_out: int


def compare(study: Study, force: bool = False) -> Pairs:
    """Compare the cells of each data set; ``force`` computes also what is not comparable."""
    compared: list[Pair] = []
    withheld: list[Pair] = []
    left_out = 0
    for group in _by_test_set(study.cells).values():
        chosen, others = _chosen(group)
        left_out += others
        pairs = [_pair(first, second, force) for first, second in chosen]
        compared += _family(pairs)
        withheld += [p for p in pairs if p.mismatches]
    withheld += _strangers(study.cells)
    return Pairs(tuple(compared), tuple(withheld), left_out)


def _by_test_set(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.top1 is not None:
            groups[cell.digest].append(cell)
    return groups


def _strangers(cells: Sequence[Cell]) -> list[Pair]:
    """Return one withheld pair for each cell that no other cell shares the pixels of."""
    groups = _by_test_set(cells)
    main = max(groups.values(), key=len, default=[])
    return [_pair(main[0], cell, force=False) for cell in lone_cells(cells)]


def lone_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells on pixels that no other cell saw, where others share theirs."""
    groups = list(_by_test_set(cells).values())
    main = max(groups, key=len, default=[])
    return [group[0] for group in groups if len(group) == 1 < len(main)]


def _chosen(cells: list[Cell]) -> tuple[list[tuple[Cell, Cell]], int]:
    """Return the pairs to compare, twins first, and how many comparable pairs are left out."""
    conditions = {cell.key: accuracy_conditions(cell) for cell in cells}
    pairs = [_oriented(a, b) for a, b in combinations(cells, 2)]
    apart = [_num_apart(first, second, conditions) for first, second in pairs]
    urgency = [_urgency(*pair) for pair in pairs]
    ranked = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: (apart[i], urgency[i]))]
    if len(cells) <= MAX_ALL_PAIRS:
        return ranked, 0
    leaders, twins = _leaders(cells, conditions), sum(1 for number in apart if number <= 1)
    rest = [pair for pair in ranked[twins:] if leaders & {cell.key for cell in pair}]
    wanted = ranked[:twins] + rest
    return wanted[:MAX_PAIRS], len(pairs) - len(wanted[:MAX_PAIRS])


def _leaders(cells: list[Cell], conditions: Mapping[str, dict[str, object]]) -> set[str]:
    """Return the key of the best cell under each set of conditions."""
    best: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda c: (c.top1.value if c.top1 else 0.0, c.key)):
        best[repr(conditions[cell.key])] = cell
    return {cell.key for cell in best.values()}


def _num_apart(first: Cell, second: Cell, conditions: Mapping[str, dict[str, object]]) -> int:
    """Return in how many things two cells differ: factors of the model and conditions."""
    one, two = conditions[first.key], conditions[second.key]
    return len(factors(first, second)) + sum(one[name] != two[name] for name in one)


def _urgency(first: Cell, second: Cell) -> int:
    """Return the rank of what a pair answers: what SE does, then the stem, then depth."""
    order = (("SE",), ("stem",), ("depth",))
    told = factors(first, second)
    return order.index(told) if told in order else len(order)


def _oriented(a: Cell, b: Cell) -> tuple[Cell, Cell]:
    """Put the plainer model first: without SE, with the ImageNet stem, shallow."""
    first, second = sorted((a, b), key=_plainness)
    return first, second


def _plainness(cell: Cell) -> tuple[object, ...]:
    model = cell.model
    return (has_se(model), model.stem != "imagenet", depth(model) or 0, model.name, cell.key)


def factors(first: Cell, second: Cell) -> tuple[str, ...]:
    """Return what tells two models apart: stem, SE, depth, or the model as a whole."""
    a, b = first.model, second.model
    found = []
    if a.stem != b.stem:
        found.append("stem")
    if _se(a) != _se(b):
        found.append("SE")
    if depth(a) != depth(b):
        found.append("depth")
    if family(a.name) != family(b.name):
        found.append("architecture")
    return tuple(found)


def _se(model: ModelSpec) -> tuple[object, ...]:
    return has_se(model), model.reduction, model.se_bias, model.se_divisor


def family(name: str) -> str:
    """Return a model's name without its SE prefix and its depth."""
    return name.removeprefix("se_").rstrip("0123456789")


def _pair(first: Cell, second: Cell, force: bool) -> Pair:
    differing = mismatches(accuracy_conditions(first), accuracy_conditions(second))
    same_images = first.digest == second.digest
    compare = same_images and (force or not differing)
    found = difference_of(first, second) if compare else None
    return Pair(first, second, factors(first, second), differing, found)


def difference_of(first: Cell, second: Cell) -> Difference | None:
    """Return the paired difference, or the unpaired one where predictions are missing."""
    one, two = first.hits, second.hits
    if one is not None and two is not None and first.test_set == second.test_set:
        return accuracy.difference(one, two)
    counts = [[(t.top1_correct, t.num_images) for t in cell.tests] for cell in (first, second)]
    return accuracy.unpaired(*counts)


def _family(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs that were compared, those under equal conditions with Holm's p-value."""
    fair = [p for p in pairs if p.difference and not p.mismatches]
    adjusted = accuracy.holm([p.difference.p for p in fair if p.difference])
    judged = [
        replace(p, p_family=q, family_size=len(fair)) for p, q in zip(fair, adjusted, strict=True)
    ]
    return judged + [p for p in pairs if p.difference and p.mismatches]


def seed_sd(study: Study) -> float | None:
    """Return the spread over seeds, pooled over all cells that have several seeds."""
    arms = [np.array([test.top1 for test in cell.tests]) for cell in study.cells]
    return accuracy.pooled_sd(arms)


def seeds_wanted(pair: Pair, known_sd: float | None) -> int | None:
    """Return how many seeds a model the observed difference needs: more than it has, else None.

    The spread over seeds is that of the pair, else of the whole study, else it is guessed from
    the images on which the two models disagree, as if each were a coin.
    """
    found = pair.difference
    if found is None or (pair.resolved and not found.exploratory):
        return None
    spread = found.seed_sd if found.seed_sd is not None else known_sd
    if spread is None:
        disagreement = _disagreement(pair)
        if disagreement is None:
            return None
        spread = (disagreement / 2) ** 0.5
    wanted = accuracy.seeds_needed(spread, found.interval.estimate) if spread else None
    trained = min(len(pair.first.runs), len(pair.second.runs))
    return wanted if wanted and wanted > trained else None


def _disagreement(pair: Pair) -> float | None:
    """Return the variance of the difference if each disagreement were a coin."""
    one, two = pair.first.hits, pair.second.hits
    if one is None or two is None:
        return None
    return float(np.mean(one[0] != two[0])) / len(one[0])
