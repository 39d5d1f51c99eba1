"""Which models a profile is of: named ones, or the trained one of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.execute.test_spec import TestSpec
    from bench.spec.run import ModelSpec


CLASSES = {"shapes": 10, "cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class Subjects:
    """The models to profile, where their weights come from, and on what these are tested."""

    models: tuple[ModelSpec, ...]
    weights: str | None = None
    run_id: str | None = None
    test: TestSpec | None = None


def _shape(
    dataset: str, data_dir: Path | None, labels: str, num_classes: int | None, size: int | None
) -> dict[str, int]:
    """Return the classes and image size to build for, without reading any image."""
    from bench.data import DATASETS
    from bench.errors import unknown

    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    if num_classes is None:
        coarse = dataset == "cifar100" and labels == "coarse"
        num_classes = 20 if coarse else CLASSES.get(dataset) or _count_folders(dataset, data_dir)
    return {"num_classes": num_classes, "image_size": 32 if size is None else size}


def _count_folders(dataset: str, data_dir: Path | None) -> int:
    from bench.errors import UserError

    if dataset != "folder":
        raise UserError(f"how many classes {dataset} has is not known here: give --num-classes")
    train = data_dir / "train" if data_dir else None
    if train is None or not train.is_dir():
        raise UserError("--dataset folder needs --data-dir with train/<class>/, or --num-classes")
    number = sum(path.is_dir() for path in train.iterdir())
    if number == 0:
        raise UserError(f"{train} holds no class folders")
    return number


def _from_names(
    models: list[str] | None,
    weights: str | None,
    built: dict[str, Any],
    shape: tuple[str, Path | None, str, int | None, int | None],
    test: TestSpec | None,
) -> Subjects:
    from bench.compute.model import identify, known_names
    from bench.errors import UserError

    if not models:
        known = ", ".join(known_names())
        raise UserError(f"name a model to profile, or give --run; models: {known}")
    if weights is not None and len(set(models)) > 1:
        raise UserError("--weights belongs to one model; profile the others by themselves")
    built = built | _shape(*shape)
    identified = (identify(name, beside=models, **built) for name in dict.fromkeys(models))
    return Subjects(tuple(identified), weights, test=test)


def _from_run(
    run: Path, models: list[str] | None, weights: str | None, changes: dict[str, Any]
) -> Subjects:
    """Return a run's model and weights, tested on its own data save for what ``changes``."""
    from bench.errors import UserError
    from bench.execute.run_folder import WEIGHTS, load_run
    from bench.execute.test_spec import TestSpec
    from bench.spec.run import DataSpec
    from bench.spec.values import validated

    if models or weights:
        raise UserError("--run brings its model and weights; give no model and no --weights")
    record = load_run(run)
    if not (run / WEIGHTS).is_file():
        raise UserError(f"{run} has no weights ({WEIGHTS}); was the run {record.status}?")
    required = changes.pop("required")
    test = TestSpec(
        data=validated(DataSpec, record.spec.data.model_dump() | changes),
        recipe=record.spec.recipe,
        classes=record.dataset.classes,
        required=required,
    )
    return Subjects((record.spec.model,), str(run / WEIGHTS), record.id, test)
