"""What a column is: one name for a quantity wherever it is given out, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.report.read.deployed import is_of_row
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec

Value = str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True)
class Column:
    """A quantity, with the functions that take it from a model, a training or a profile.

    Fractions stay fractions and units are in the names. Of a row that has both, the profile's
    value counts. Where the training's value is of one artefact, such as an accuracy, a row that
    timed another has ``of_deployment`` in its place, which may be nothing.
    """

    name: str
    definition: str
    of_model: Callable[[ModelSpec], Value] | None = None
    of_training: Callable[[Cell], Value] | None = None
    of_profile: Callable[[CostRow], Value] | None = None
    of_deployment: Callable[[Cell | None, CostRow], Value] | None = None

    def value(self, model: ModelSpec, cell: Cell | None, row: CostRow | None) -> Value:
        """Return the value of one row of the table; None where nothing was measured."""
        same = row is None or (cell is not None and is_of_row(cell, row))
        if row is not None and self.of_deployment is not None and not same:
            return self.of_deployment(cell, row)
        if row is not None and self.of_profile is not None:
            return self.of_profile(row)
        if cell is not None and self.of_training is not None:
            return self.of_training(cell)
        return self.of_model(model) if self.of_model is not None else None
