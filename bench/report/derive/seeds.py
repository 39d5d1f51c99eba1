"""What is known of the luck of training in a study, and what its user states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.report.derive.conditions import accuracy_conditions
from bench.report.read.trained import Cell
from bench.stats import luck
from bench.stats.luck import Luck, SeedSpread


@dataclass(frozen=True)
class Stated:
    """What a user states, as fractions: the sd over seeds, and what difference is none."""

    seed_sd: float | None = None
    margin: float | None = None


NOTHING_STATED = Stated()


@dataclass(frozen=True)
class SeedLuck:
    """The luck of training, pooled over the models that have several seeds and have learnt.

    By the conditions of the training, and by data set where nothing was trained twice under the
    same ones; ``stated`` stands in where the study itself knows nothing.
    """

    by_conditions: dict[str, Luck] = field(default_factory=dict)
    by_data: dict[str, Luck] = field(default_factory=dict)
    stated: Luck | None = None

    def of(self, cells: Sequence[Cell]) -> Luck | None:
        """Return the luck that cells on one data set are drawn with; None where it is unknown."""
        conditions = {repr(accuracy_conditions(cell)) for cell in cells}
        known = self.by_conditions.get(conditions.pop()) if len(conditions) == 1 else None
        if known is not None:
            return known
        return self.on(cells[0].digest)

    def on(self, digest: str) -> Luck | None:
        """Return the luck of trainings on a data set, however its models were trained."""
        others = self.by_data.get(digest)
        return self.stated if others is None else replace(others, elsewhere=True)


UNKNOWN = SeedLuck()


def luck_of(cells: Iterable[Cell], stated_sd: float | None = None) -> SeedLuck:
    """Return the luck of training of some cells, with the sd that their user states (a fraction).

    Models that have not learnt are left out: guessing has no luck of training.
    """
    conditions: defaultdict[str, list[SeedSpread]] = defaultdict(list)
    data: defaultdict[str, list[SeedSpread]] = defaultdict(list)
    for cell in cells:
        if cell.seed_spread is not None and cell.has_learnt:
            conditions[repr(accuracy_conditions(cell))].append(cell.seed_spread)
            data[cell.digest].append(cell.seed_spread)
    return SeedLuck(
        {key: found for key, spreads in conditions.items() if (found := luck.pooled(spreads))},
        {key: found for key, spreads in data.items() if (found := luck.pooled(spreads))},
        None if stated_sd is None else luck.stated(stated_sd),
    )
