"""senet-bench from Python: the same functions that the command line calls.

from bench.api import load

table = load("runs", "profiles")  # a pandas DataFrame, one row per deployment
table.sort_values("latency_ms")[["model", "stem", "top1", "latency_ms", "runtime"]]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(*folders: str | Path, price_per_hour: float | None = None) -> pd.DataFrame:
    """Return all records in and below ``folders`` as one table, the rows of results.csv.

    One row per model × device × precision × runtime × mode × scenario × batch size, accuracy and
    cost joined on the model; `bench/report/COLUMNS.md` says what each column means and its unit.
    What was not measured is ``<NA>``. ``price_per_hour`` of the profiled machine fills
    ``price_per_million``.

    Raises UserError when a folder is not there, or when there is no usable record in any.
    """
    from bench.report.read.load import load as read
    from bench.report.read.study import study
    from bench.report.table.rows import frame

    return frame(study(read([Path(folder) for folder in folders]), price_per_hour))
