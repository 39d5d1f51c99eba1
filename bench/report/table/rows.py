"""The tidy table: one row per model × device × precision × runtime × batch size × mode.

Accuracy and training columns come from run records, cost columns from profile records, joined on
the model's identity.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bench.report.read.models import model_order
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.report.table.column import Column, Value
from bench.report.table.deployed_columns import DEPLOYED_COLUMNS
from bench.report.table.profiled_columns import COUNTED_COLUMNS, PROFILED_COLUMNS, RECORD_COLUMNS
from bench.report.table.trained_columns import MODEL_COLUMNS, TRAINED_COLUMNS
from bench.spec.run import ModelSpec

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: tuple[Column, ...] = (
    *MODEL_COLUMNS,
    *COUNTED_COLUMNS,
    *TRAINED_COLUMNS,
    *PROFILED_COLUMNS,
    *DEPLOYED_COLUMNS,
    *RECORD_COLUMNS,
)
DEFINITIONS: dict[str, str] = {column.name: column.definition for column in COLUMNS}
assert len(DEFINITIONS) == len(COLUMNS), "two columns have one name"
Row = dict[str, Value]


def rows(study: Study) -> list[Row]:
    """Return the rows of the table, each with every one of `COLUMNS`."""
    cells: defaultdict[ModelSpec, list[Cell]] = defaultdict(list)
    costs: defaultdict[ModelSpec, list[CostRow]] = defaultdict(list)
    for cell in study.cells:
        cells[cell.model].append(cell)
    for cost in study.costs:
        costs[cost.model].append(cost)
    return [
        {column.name: column.value(model, trained, cost) for column in COLUMNS}
        for model in sorted({*cells, *costs}, key=model_order)
        for trained in cells.get(model) or (None,)
        for cost in costs.get(model) or (None,)
    ]


def profile_row(row: CostRow) -> Row:
    """Return the columns that a profile alone knows; None where something was not measured."""
    return {
        column.name: column.value(row.model, None, row)
        for column in COLUMNS
        if column.of_model or column.of_profile or column.of_deployment
    }


def frame(study: Study) -> pd.DataFrame:
    """Return the table as a DataFrame with the columns of `COLUMNS`."""
    import pandas as pd

    told = [{name: in_one_cell(value) for name, value in row.items()} for row in rows(study)]
    return pd.DataFrame(told, columns=list(DEFINITIONS)).convert_dtypes()


def in_one_cell(value: Value) -> str | int | float | bool | None:
    """Return several texts as one, none as None."""
    return ("; ".join(value) or None) if isinstance(value, tuple) else value
