"""Say whether two rows may be compared, and if not, what differs.

Models are what a comparison is about and may differ; the conditions may not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from bench.record.environment import Environment
from bench.report.read.models import preprocessing_text, versions
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell

# Whether the code had changes that no commit holds: their numbers are of code that nobody has.
CHANGES = "uncommitted changes"
# What a precision is made of, for those who compare precisions.
OF_PRECISION = (
    "precision",
    "flag float32_matmul_precision",
    "flag cudnn_allow_tf32",
    "flag matmul_allow_tf32",
)


class Mismatch(NamedTuple):
    """A condition on which two rows differ, with both values in words."""

    condition: str
    first: str
    second: str

    def __str__(self) -> str:
        """Return it as it stands beside a difference: ``epochs 3 / 100``."""
        return f"{self.condition} {self.first} / {self.second}"


def accuracy_conditions(cell: Cell) -> dict[str, object]:
    """Return what must agree before two accuracies are compared."""
    record = cell.runs[0].record
    recipe = cell.recipe.model_dump()
    return {
        "data set": cell.dataset,
        "pixels": cell.digest[:8],
        "training images": record.dataset.num_train,
        "test images": record.dataset.num_test,
        "labels": record.spec.data.labels,
        "image size": cell.model.image_size,
        "held-out share": record.spec.val_split,
        "starting weights": record.spec.weights,
        "preprocessing": preprocessing_text(cell.model, record.spec.data.preprocessing),
        "training loop": record.spec.engine,
        "precision": record.spec.precision,
        CHANGES: cell.environment.dirty,
        **versions(cell.environment),
        "recipe": recipe.pop("name"),
        **recipe,
    }


def speed_conditions(row: CostRow) -> dict[str, object]:
    """Return what must agree before two speeds are compared."""
    record = row.first
    return {
        **_surroundings(row.environment),
        "mode": record.mode,
        "scenario": record.scenario,
        "batch size": record.batch_size,
        "precision": record.precision,
        "runtime": record.runtime,
        "image size": row.model.image_size,
    }


def training_conditions(cell: Cell) -> dict[str, object]:
    """Return what must agree before the seconds of two trainings are compared, in all their runs.

    How much was trained is another question (`accuracy_conditions`).
    """
    each = [
        {
            **_surroundings(run.record.environment),
            "training loop": run.record.spec.engine,
            "precision": run.record.spec.precision,
            "runtime": run.record.runtime or run.record.spec.runtime,
        }
        for run in cell.runs
    ]
    return {name: tuple({str(one.get(name)): 0 for one in each}) for one in each for name in one}


def _surroundings(env: Environment) -> dict[str, object]:
    """Return what surrounds a measurement of time: the machine, the versions, every flag."""
    return {
        "device": env.device,
        "device name": env.device_name,
        "host": env.host,
        "CPU": env.cpu_model,
        "threads": env.num_threads,
        "driver": env.driver,
        CHANGES: env.dirty,
        **versions(env),
        **{f"flag {name}": value for name, value in env.flags.items()},
        **{f"variable {name}": value for name, value in env.env.items()},
    }


def may_meet(first: CostRow, second: CostRow, ignoring: Collection[str] = ()) -> bool:
    """Tell whether two speeds were measured under equal conditions, but for those to ignore."""
    return not mismatches(speed_conditions(first), speed_conditions(second), ignoring)


def largest_alike(
    rows: Mapping[str, CostRow], ignoring: Collection[str] = ()
) -> dict[str, CostRow]:
    """Return the rows, by what they are of, of the conditions that most of them share."""
    groups: defaultdict[str, dict[str, CostRow]] = defaultdict(dict)
    for key, row in rows.items():
        told = {n: value for n, value in speed_conditions(row).items() if n not in ignoring}
        groups[repr(told)][key] = row
    return max(groups.values(), key=len, default={})


def mismatches(
    first: dict[str, object], second: dict[str, object], ignoring: Collection[str] = ()
) -> tuple[Mismatch, ...]:
    """Return the conditions on which two rows differ, in order."""
    names = [name for name in {**first, **second} if name not in ignoring]
    return tuple(
        Mismatch(name.replace("_", " "), _shown(first.get(name)), _shown(second.get(name)))
        for name in names
        if first.get(name) != second.get(name)
    )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
