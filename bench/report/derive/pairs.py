"""Compare trained models in pairs on the same test images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.report.derive.conditions import Mismatch, accuracy_conditions, mismatches
from bench.report.derive.seeds import SeedLuck
from bench.report.read.models import depth, family, kind, width
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats import accuracy
from bench.stats.accuracy import Difference
from bench.stats.decide import Finding, finding, seeds_needed
from bench.stats.luck import Luck

# Up to this many models every pair is compared; beyond, twins and the best against the rest.
MAX_ALL_PAIRS = 8
MAX_PAIRS = 60


@dataclass(frozen=True)
class Pair:
    """Two cells and how much better the second is.

    ``p_family`` is Holm's over the ``family_size`` tests of its data set (`findings`).

    ``mismatches`` are conditions on which they differ: the difference is then withheld (None), or
    forced and outside the family. ``factors`` are what tells the models apart. ``p_same`` is that
    of equivalence within the stated margin, corrected likewise; None without a margin.
    """

    first: Cell
    second: Cell
    factors: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]
    difference: Difference | None
    p_family: float | None = None
    p_same: float | None = None
    family_size: int = 0

    @property
    def finding(self) -> Finding:
        """Return what may be said of the two models: nothing where the luck is unknown."""
        if self.difference is None:
            return "not resolved"
        return finding(self.difference.interval.estimate, self.p_family, self.p_same)

    @property
    def resolved(self) -> bool:
        """Return whether one model is the better, significantly in its family."""
        return self.finding in ("more", "less")

    @property
    def better(self) -> Cell:
        """Return the model with the higher accuracy."""
        found = self.difference
        return self.second if found and found.interval.estimate > 0 else self.first


@dataclass(frozen=True)
class Pairs:
    """The compared pairs of all data sets, the withheld ones, and how many were left out."""

    pairs: tuple[Pair, ...]
    withheld: tuple[Pair, ...]
    num_left_out: int


def compare(study: Study, luck: SeedLuck, force: bool = False) -> Pairs:
    """Compare the cells of each data set that have learnt anything; nothing is judged yet.

    ``force`` computes also what is not comparable.
    """
    compared: list[Pair] = []
    withheld: list[Pair] = []
    left_out = 0
    for group in _by_test_set(study.cells).values():
        chosen, others = _chosen(group)
        left_out += others
        pairs = [_pair(first, second, luck, force) for first, second in chosen]
        compared += [p for p in pairs if p.difference]
        withheld += [p for p in pairs if p.mismatches]
    withheld += _strangers(study.cells, luck)
    return Pairs(tuple(compared), tuple(withheld), left_out)


def _by_test_set(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.top1 is not None and cell.has_learnt:
            groups[cell.digest].append(cell)
    return groups


def _strangers(cells: Sequence[Cell], luck: SeedLuck) -> list[Pair]:
    """Return one withheld pair for each cell that no other cell shares the pixels of."""
    groups = _by_test_set(cells)
    main = max(groups.values(), key=len, default=[])
    return [_pair(main[0], cell, luck, force=False) for cell in lone_cells(cells)]


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
    """Return the rank of what a pair answers: what attention does, then stem, depth, width."""
    order = (("attention",), ("stem",), ("depth",), ("width",))
    told = factors(first, second)
    return order.index(told) if told in order else len(order)


def _oriented(a: Cell, b: Cell) -> tuple[Cell, Cell]:
    """Put the plainer model first: without attention, with the ImageNet stem, shallow."""
    first, second = sorted((a, b), key=_plainness)
    return first, second


def _plainness(cell: Cell) -> tuple[object, ...]:
    model = cell.model
    own = model.attention.changes() if model.attention else {}
    sizes = (depth(model) or 0, width(model) or 0)
    return (
        (kind(model) != "none", kind(model) != "se", len(own)),
        (model.stem != "imagenet", sizes, model.name, cell.key),
    )


def factors(first: Cell, second: Cell) -> tuple[str, ...]:
    """Return what tells two models apart: stem, attention, depth, width, or the whole model."""
    a, b = first.model, second.model
    found = []
    if a.stem != b.stem:
        found.append("stem")
    if _attention(a) != _attention(b):
        found.append("attention")
    if depth(a) != depth(b):
        found.append("depth")
    if width(a) != width(b):
        found.append("width")
    if (family(a), a.arguments) != (family(b), b.arguments):
        found.append("architecture")
    return tuple(found)


def _attention(model: ModelSpec) -> tuple[object, ...]:
    return kind(model), model.attention


def _pair(first: Cell, second: Cell, luck: SeedLuck, force: bool) -> Pair:
    differing = mismatches(accuracy_conditions(first), accuracy_conditions(second))
    same_images = first.digest == second.digest
    compare = same_images and (force or not differing)
    found = difference_of(first, second, luck.of([first, second])) if compare else None
    return Pair(first, second, factors(first, second), differing, found)


def difference_of(first: Cell, second: Cell, luck: Luck | None) -> Difference | None:
    """Return the paired difference, or the unpaired one where predictions are missing."""
    one, two, looks = first.hits, second.hits, max(first.looks, second.looks)
    if one is not None and two is not None and first.test_set == second.test_set:
        return accuracy.difference(one, two, luck).at_look(looks)
    before, after = (
        [(t.top1_correct, t.num_images) for t in cell.tests] for cell in (first, second)
    )
    found = accuracy.unpaired(before, after, luck)
    return found and found.at_look(looks)


def seeds_wanted(pair: Pair) -> int | None:
    """Return how many seeds a model a difference of the observed size needs, at the family's level.

    None where it is resolved already, or the luck of training is unknown, or no number of seeds
    does, or as many were trained.
    """
    found = pair.difference
    if found is None or found.luck is None or pair.finding != "not resolved":
        return None
    size, family = found.interval.estimate, max(1, pair.family_size)
    wanted = seeds_needed(found.luck.sd, size, family, found.image_error)
    trained = min(len(pair.first.runs), len(pair.second.runs))
    return wanted if wanted and wanted > trained else None
