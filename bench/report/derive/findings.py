"""Everything that is derived from a study, once for all renderers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from bench.report.derive.attribution import Attribution, attributions
from bench.report.derive.conditions import accuracy_conditions
from bench.report.derive.gains import Gain, gains
from bench.report.derive.headline import headlines, machine_of
from bench.report.derive.labels import cell_labels, model_labels
from bench.report.derive.pairs import Pair, Pairs, compare, lone_cells
from bench.report.derive.pareto import Front, accuracy_draws, front
from bench.report.derive.seeds import NOTHING_STATED, SeedLuck, Stated, luck_of
from bench.report.derive.speed.axes import accuracy_axes
from bench.report.derive.speed.ratios import Ratio, corrected, time_ratio
from bench.report.derive.time_to import Race, races
from bench.report.read.load import SetAside
from bench.report.read.models import depth, kind, width
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec
from bench.stats.decide import holm

# More rows in one front, or more speed ratios, are nothing that anybody reads.
MAX_SPEEDS = 60


@dataclass(frozen=True)
class Speed:
    """How many times the time of ``base`` the row of another model takes on the same machine."""

    row: CostRow
    base: CostRow
    factor: str
    ratio: Ratio


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
    pairs = compare(study, luck, stated.margin, force)
    return Findings(
        study=study,
        labels=cell_labels(study.cells),
        model_labels=model_labels(study.models),
        pairs=pairs,
        luck=luck,
        stated=stated,
        attributions=tuple(_gaps_judged(pairs, attributions(study, luck, stated.margin))),
        gains=tuple(_gains_judged(pairs, gains(study, luck, stated.margin))),
        fronts=tuple(_fronts(study, luck)),
        speeds=tuple(_speeds(study)),
        races=tuple(races(study)),
        set_aside=(*study.set_aside, *_strangers(study)),
    )


def _judged(pairs: Pairs) -> dict[frozenset[str], Pair]:
    """Return the compared pairs by what they compare: two cells have one verdict in a report."""
    return {frozenset((pair.first.key, pair.second.key)): pair for pair in pairs.pairs}


def _gains_judged(pairs: Pairs, found: Iterable[Gain]) -> Iterator[Gain]:
    """Yield the gains with the p-values that their pairs have in the family of all pairs."""
    known = _judged(pairs)
    for gain in found:
        pair = known.get(frozenset((gain.plain.key, gain.full.key)))
        yield replace(gain, p_family=pair.p_family, p_same=pair.p_same) if pair else gain


def _gaps_judged(pairs: Pairs, found: Iterable[Attribution]) -> Iterator[Attribution]:
    """Yield the attributions, their gaps judged as pairs are; one not resolved is not split."""
    known = _judged(pairs)
    for one in found:
        gaps = []
        for gap in one.gaps:
            pair = known.get(frozenset((gap.plain.key, gap.full.key)))
            judged = replace(gap, p_family=pair.p_family) if pair else gap
            gaps.append(judged if judged.resolved else replace(judged, shares=()))
        yield replace(one, gaps=tuple(gaps))


def _fronts(study: Study, luck: SeedLuck) -> list[tuple[str, Front]]:
    """Return (data set, front) for every data set and cost, of cells that may be compared."""
    found = []
    for cells in (group for group in _comparable(study) if len(group) > 1):
        draws = accuracy_draws(cells, luck.of(cells))
        for axis in accuracy_axes(study, cells):
            one = front(cells, axis, draws)
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
    return _with_family(sorted(found, key=lambda speed: order[speed.factor])[:MAX_SPEEDS])


def _with_family(speeds: Sequence[Speed]) -> list[Speed]:
    """Return the ratios with their p-values corrected for their number."""
    adjusted = iter(holm([p for speed in speeds if (p := speed.ratio.p) is not None]))
    return [
        replace(s, ratio=corrected(s.ratio, next(adjusted))) if s.ratio.p is not None else s
        for s in speeds
    ]


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
