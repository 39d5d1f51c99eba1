"""Everything that is derived from a study, once for all renderers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple, TypeVar

from bench.report.derive.attribution import Attribution, Effect, Gap, attributions
from bench.report.derive.conditions import accuracy_conditions
from bench.report.derive.gains import Gain, gains
from bench.report.derive.headline import headlines, machine_of
from bench.report.derive.labels import cell_labels, model_labels
from bench.report.derive.pairs import Pair, Pairs, compare, lone_cells
from bench.report.derive.pareto import Front, accuracy_draws, front
from bench.report.derive.seeds import NOTHING_STATED, SeedLuck, Stated, luck_of
from bench.report.derive.speed.attention_tax import (
    RuntimeCost,
    ScenarioCost,
    scenario_costs,
)
from bench.report.derive.speed.axes import accuracy_axes
from bench.report.derive.speed.ratios import Ratio, corrected, time_ratio
from bench.report.derive.time_to import Race, races
from bench.report.read.load import SetAside
from bench.report.read.models import depth, kind, width
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats import accuracy
from bench.stats.accuracy import Difference

# More rows in one front, or more speed ratios, are nothing that anybody reads.
MAX_SPEEDS = 60


@dataclass(frozen=True)
class Speed:
    """How many times the time of ``base`` the row of another model takes on the same machine."""

    row: CostRow
    base: CostRow
    factor: str
    ratio: Ratio


Timed = TypeVar("Timed", Speed, RuntimeCost)


@dataclass(frozen=True)
class Findings:
    """A study with what follows from it; ``labels`` name its cells by key.

    ``set_aside`` adds to the study's the runs that nothing can be compared with.
    """

    study: Study
    labels: dict[str, str]
    model_labels: dict[ModelSpec, str]
    pairs: Pairs
    luck: SeedLuck
    stated: Stated
    attributions: tuple[Attribution, ...]
    gains: tuple[Gain, ...]
    fronts: tuple[tuple[str, Front], ...]
    speeds: tuple[Speed, ...]
    costs: tuple[ScenarioCost, ...]
    races: tuple[Race, ...]
    set_aside: tuple[SetAside, ...]

    def best(self) -> list[Cell]:
        """Return the most accurate cell of each data set, that of the main one first."""
        found = []
        for name in self.study.datasets:
            cells = [c for c in self.study.cells if (c.dataset, c.digest) == name and c.top1]
            found += [max(cells, key=lambda c: (c.top1.value if c.top1 else 0, c.key))] * bool(
                cells
            )
        return found


def findings(study: Study, force: bool = False, stated: Stated = NOTHING_STATED) -> Findings:
    """Derive everything; ``force`` computes also differences that are not comparable, marked.

    ``stated`` holds what the user says of the luck of training and of differences that matter.
    """
    luck = luck_of(study.cells, stated.seed_sd)
    pairs, causes, brought = _judge(
        compare(study, luck, force), attributions(study, luck), gains(study, luck), stated.margin
    )
    speeds, costs = _times(study)
    return Findings(
        study=study,
        labels=cell_labels(study.cells),
        model_labels=model_labels(study.models),
        pairs=pairs,
        luck=luck,
        stated=stated,
        attributions=causes,
        gains=brought,
        fronts=tuple(_fronts(study, luck)),
        speeds=speeds,
        costs=costs,
        races=tuple(races(study)),
        set_aside=(*study.set_aside, *_strangers(study)),
    )


# What tells tests apart: data set, what is asked, and the cells that it is asked of.
Test = tuple[str, str, frozenset[str]]


class Judged(NamedTuple):
    """What a family makes of a test: p-values of a difference and of equivalence, and its size."""

    p_family: float | None = None
    p_same: float | None = None
    family_size: int = 0


def _of_two(one: Pair | Gap | Gain) -> Test:
    """Return the test of two cells, who have one verdict in a report."""
    cells = (one.first, one.second) if isinstance(one, Pair) else (one.plain, one.full)
    return (cells[0].dataset, "", frozenset(cell.key for cell in cells))


def _of_effect(dataset: str, effect: Effect) -> Test:
    """Return the test of an effect; where it has but one context that is one of two cells."""
    of_two = len(effect.term.contexts) == 1
    asked = "" if of_two else f"{effect.term.name}: {effect.term.change}"
    return (dataset, asked, frozenset(effect.keys))


def _judge(
    pairs: Pairs, causes: Sequence[Attribution], brought: Sequence[Gain], margin: float | None
) -> tuple[Pairs, tuple[Attribution, ...], tuple[Gain, ...]]:
    """Return pairs, attributions and gains with the p-values of one family for each data set.

    What a report says of models is wrong anywhere in it in 5 % of reports at most. A gap that is
    not resolved is not split.
    """
    told = [(_of_two(p), p.difference) for p in pairs.pairs if not p.mismatches]
    told += [(_of_effect(one.dataset, e), e.top1) for one in causes for e in one.effects]
    told += [(_of_two(gap), gap.total) for one in causes for gap in one.gaps]
    told += [(_of_two(gain), gain.difference) for gain in brought]
    families: defaultdict[str, dict[Test, Difference]] = defaultdict(dict)
    for test, found in told:
        if found is not None and found.p is not None:
            families[test[0]].setdefault(test, found)
    judged = {
        test: Judged(*both, len(family))
        for family in families.values()
        for test, both in zip(
            family, accuracy.corrected(list(family.values()), margin), strict=True
        )
    }

    def of(test: Test) -> Judged:
        return judged.get(test, Judged())

    def attributed(one: Attribution) -> Attribution:
        effects = [replace(e, **of(_of_effect(one.dataset, e))._asdict()) for e in one.effects]
        gaps = [replace(gap, p_family=of(_of_two(gap)).p_family) for gap in one.gaps]
        split = [gap if gap.resolved else replace(gap, shares=()) for gap in gaps]
        return replace(one, effects=tuple(effects), gaps=tuple(split))

    compared = [p if p.mismatches else replace(p, **of(_of_two(p))._asdict()) for p in pairs.pairs]
    gained = []
    for gain in brought:
        own = of(_of_two(gain))
        gained.append(replace(gain, p_family=own.p_family, p_same=own.p_same))
    return replace(pairs, pairs=tuple(compared)), tuple(map(attributed, causes)), tuple(gained)


def _fronts(study: Study, luck: SeedLuck) -> list[tuple[str, Front]]:
    """Return (data set, front) for every data set and cost, of cells that may be compared."""
    found = []
    for cells in (group for group in _comparable(study) if len(group) > 1):
        known = luck.of(cells)
        draws = accuracy_draws(cells, known)
        rests_on = known if any(len(cell.runs) < 2 for cell in cells) else None
        for axis in accuracy_axes(study, cells):
            one = front(cells, axis, draws, rests_on)
            found += [(cells[0].dataset, one)] if one else []
    return found


def _strangers(study: Study) -> list[SetAside]:
    """Return the runs on a data set of their own: they are shown, but compared with nothing."""
    return [
        SetAside(
            run.path,
            f"from another data set ({cell.dataset}, {cell.digest[:8]}); in the tables, but "
            "compared with nothing",
        )
        for cell in lone_cells(study.cells)
        for run in cell.runs
    ]


def _comparable(study: Study) -> list[list[Cell]]:
    """Return the cells under equal conditions, largest group first."""
    groups: dict[str, list[Cell]] = {}
    for cell in study.cells:
        if cell.top1 and cell.has_learnt:
            groups.setdefault(repr(accuracy_conditions(cell)), []).append(cell)
    return sorted(groups.values(), key=lambda cells: (-len(cells), cells[0].key))


def _times(study: Study) -> tuple[tuple[Speed, ...], tuple[ScenarioCost, ...]]:
    """Return the ratios of times and the costs of attention, judged as one family."""
    speeds, costs = _speeds(study), scenario_costs(study.costs)
    inside = [one for cost in costs for one in cost.runtimes]
    told: list[Speed | RuntimeCost] = [*speeds, *inside]
    ratios = {(one.row.key, one.base.key): one.ratio for one in told}
    judged = dict(zip(ratios, corrected(list(ratios.values())), strict=True))

    def of(one: Timed) -> Timed:
        return replace(one, ratio=judged[one.row.key, one.base.key])

    return tuple(map(of, speeds)), tuple(
        replace(cost, runtimes=tuple(map(of, cost.runtimes))) for cost in costs
    )


def _speeds(study: Study) -> list[Speed]:
    """Return the time ratios of models that differ in one factor, on each machine."""
    found: list[Speed] = []
    lines = headlines(study)
    for rows in ([h.offline for h in lines], [h.single for h in lines]):
        unique = list({row.key: row for row in rows if row is not None}.values())
        for base, row in combinations(sorted(unique, key=_plainness), 2):
            factors = _factors(base.model, row.model)
            if machine_of(base) == machine_of(row) and len(factors) == 1:
                ratio = time_ratio(row, base)
                found += [Speed(row, base, factors[0], ratio)] if ratio else []
    order = {"attention": 0, "stem": 1, "depth": 2, "width": 3}
    return sorted(found, key=lambda speed: order[speed.factor])[:MAX_SPEEDS]


def _plainness(row: CostRow) -> tuple[object, ...]:
    model = row.model
    has_attention = kind(model) != "none"
    return (has_attention, model.stem != "imagenet", depth(model) or 0, model.name, row.key)


def _factors(a: ModelSpec, b: ModelSpec) -> Sequence[str]:
    told = {
        "attention": (kind(a), a.attention) != (kind(b), b.attention),
        "stem": a.stem != b.stem,
        "depth": depth(a) != depth(b),
        "width": width(a) != width(b),
    }
    same_input = (a.image_size, a.num_classes) == (b.image_size, b.num_classes)
    return [name for name, differs in told.items() if differs] if same_input else []
