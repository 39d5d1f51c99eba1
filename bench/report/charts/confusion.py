"""How often each class is taken for each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from bench.report import escape
from bench.report.derive.per_class import confusion_counts
from bench.report.read.trained import Cell

MAX_CLASSES = 20


def confusion(title: str, cell: Cell) -> Callable[[Figure], None]:
    """Return a function that draws a cell's confusion matrix in per cent of each true class."""
    counts = confusion_counts(cell)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = 100 * counts / totals
    names = [escape.chart(name)[:16] for name in cell.runs[0].record.dataset.classes]

    def draw(figure: Figure) -> None:
        figure.set_size_inches(7.2, 6.2)
        axes = figure.add_subplot()
        wrong = shares - np.diag(np.diag(shares))
        right = np.where(np.eye(len(names), dtype=bool), shares, np.nan)
        axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1.0, float(wrong.max())))
        # What is right is blue and as dark as it is often, what is wrong orange.
        axes.imshow(right, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.05:
                text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
                dark = share > (55 if row == column else 0.6 * wrong.max())
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize="small" if len(names) <= 12 else "xx-small",
                    fontweight="bold" if row == column else "normal",
                    color="white" if dark else "#222222",
                )
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.set(xlabel="said", ylabel="true class")
        axes.set_title(escape.chart_title(f"{title}, %"))

    return draw
