"""What an experiment would take, from seconds that were measured; nothing is started."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.errors import UserError
from bench.execute import experiment as whole
from bench.execute.run_folder import RECORD
from bench.record.run import RunRecord
from bench.report.read.load import load
from bench.spec.experiment import Experiment
from bench.spec.run import RunSpec

WORKERS = (1, 8, 100)
TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000}  # of data sets that are not read for a plan


@dataclass(frozen=True)
class Plan:
    """How many trainings an experiment has, how many are left, and what these take.

    ``unknown`` are models of which nothing like it was measured; their trainings are in no figure.
    ``hours`` are those until the last training ends, by number of workers.
    """

    num_runs: int
    num_left: int
    unknown: tuple[str, ...]
    machine_hours: float
    hours: dict[int, float]
    price: float | None = None


def plan(
    experiment: Experiment,
    runs: Path,
    measured: Sequence[Path],
    device: str,
    price_per_hour: float | None = None,
) -> Plan:
    """Return what is left of an experiment, by the trainings that ``measured`` folders hold."""
    specs = [
        whole.run_spec(experiment, device, model, seed)
        for model, seed in product(whole.models(experiment, None), experiment.seeds)
    ]
    left = [spec for spec in specs if not (runs / spec.folder_name() / RECORD).exists()]
    records = _measured(measured)
    seconds = [(spec, seconds_of(spec, records)) for spec in left]
    known = [value for _, value in seconds if value is not None]
    machine_hours = sum(known) / 3600
    return Plan(
        num_runs=len(specs),
        num_left=len(left),
        unknown=tuple(sorted({spec.model.title for spec, value in seconds if value is None})),
        machine_hours=machine_hours,
        hours={workers: makespan(known, workers) / 3600 for workers in WORKERS},
        price=None if price_per_hour is None else machine_hours * price_per_hour,
    )


def _measured(folders: Sequence[Path]) -> list[RunRecord]:
    """Return the trainings in folders; none where there is no record yet."""
    try:
        loaded = load([folder for folder in folders if folder.is_dir()])
    except UserError:
        return []
    return [run.record for run in loaded.runs if run.record.epochs]


def seconds_of(spec: RunSpec, records: Iterable[RunRecord]) -> float | None:
    """Return the seconds that a training would take; None where nothing like it was measured.

    An image takes as long as in the median of the trainings like it; what the data, building and
    testing took is added as it was.
    """
    like = [record for record in records if _is_like(record.spec, spec)]
    if not like:
        return None
    per_image = statistics.median(1 / epoch.throughput for r in like for epoch in r.epochs)
    beside = statistics.median(r.data_s + r.build_s + r.eval_s for r in like)
    own = TRAIN_IMAGES.get(spec.data.name, max(r.dataset.num_train for r in like))
    images = min(own, spec.data.train_limit or own) * (1 - spec.val_split)
    return per_image * images * spec.recipe.epochs + beside


def _is_like(measured: RunSpec, asked: RunSpec) -> bool:
    """Tell whether an image takes as long in one training as in the other; classes do not tell."""
    one, other = (spec.model.model_copy(update={"num_classes": 1}) for spec in (measured, asked))
    kinds = measured.device.partition(":")[0], asked.device.partition(":")[0]
    return (
        one == other
        and kinds[0] == kinds[1]
        and measured.precision == asked.precision
        and measured.recipe.batch_size == asked.recipe.batch_size
    )


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of several jobs ends, the longest begun first (Graham, 1969)."""
    busy_until = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(busy_until, busy_until[0] + job)
    return max(busy_until)
