"""What is right and wrong in each class."""

from __future__ import annotations

import numpy as np

from bench.report.read.predictions import class_counts
from bench.report.read.trained import Cell


def confusion_counts(cell: Cell) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return how often each class (rows) was taken for each (columns), summed over seeds."""
    size = cell.model.num_classes
    counts = np.zeros((size, size), dtype=np.int64)
    for run in cell.runs:
        if run.predictions is not None:
            counts += class_counts(run.predictions, size)
    return counts


def class_top1(cell: Cell) -> list[float]:
    """Return top-1 of each class as a fraction, the mean over seeds; NaN without images."""
    counts = confusion_counts(cell)
    with np.errstate(invalid="ignore", divide="ignore"):
        return [float(share) for share in np.diag(counts) / counts.sum(axis=1)]
