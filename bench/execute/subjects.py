"""Which models a profile is of, with which weights, and the job that makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import senet
from bench import data
from bench.compute.model import identify, is_pretrained_name, known_names
from bench.errors import UserError
from bench.execute.evaluate_weights import architecture_of, recorded_weights
from bench.execute.jobs import ProfileJob
from bench.execute.run_folder import load_run
from bench.machine.devices import resolve
from bench.measure.profile import check
from bench.record.files import check_writable
from bench.spec.profile import ProfileSpec, TimingSpec
from bench.spec.run import DataSpec, ModelSpec
from bench.spec.test_set import TestSpec
from bench.spec.values import validated


@dataclass(frozen=True)
class Subjects:
    """The models to profile, the weights of those that are trained, and on what these are tested.

    ``run_ids`` names the runs that trained them.
    """

    models: tuple[ModelSpec, ...]
    weights: Mapping[ModelSpec, str] = field(default_factory=dict)
    run_ids: Mapping[ModelSpec, str] = field(default_factory=dict)
    test: TestSpec | None = None


@dataclass(frozen=True)
class Shape:
    """Whose classes and image size models are built for, unless these are given."""

    dataset: str
    data_dir: Path | None
    labels: str
    num_classes: int | None
    image_size: int | None


def profile_job(subjects: Subjects, options: Mapping[str, Any], out: Path = Path()) -> ProfileJob:
    """Return the job that profiles models; ``options`` are fields of `ProfileSpec`.

    The device is that of whichever machine does the job, which is not looked for here. Raises
    UserError for values that there are not.
    """
    return ProfileJob(
        validated(ProfileSpec, {**options, "models": subjects.models}),
        run_ids=tuple(subjects.run_ids.items()),
        weights=tuple(subjects.weights.items()),
        test=subjects.test,
        out=out,
    )


def checked_profile_job(
    subjects: Subjects, options: dict[str, Any], timing: dict[str, Any], out: Path
) -> ProfileJob:
    """Return what to measure; UserError for what cannot be, before anything is written."""
    own = {"device": resolve(options["device"]), "timing": validated(TimingSpec, timing)}
    job = profile_job(subjects, options | own, out)
    check(job.spec)
    check_writable(out)
    return job


def check_accuracy(subjects: Subjects) -> None:
    """Raise UserError where there is nothing to measure accuracy with, though it is asked for."""
    if not subjects.weights:
        raise UserError("--accuracy needs trained weights: give --run, or --weights and --dataset")
    if subjects.test is None:
        raise UserError("--accuracy needs a data set to test the weights on: give --dataset")


def by_name(
    models: Iterable[str] | None,
    weights: str | None,
    built: dict[str, Any],
    shape: Shape,
    test: TestSpec | None,
) -> Subjects:
    """Return named models, one of them with ``weights``; UserError for what there is not."""
    names = tuple(dict.fromkeys(models or ()))
    if not names and weights is not None:
        own = _own_architecture(weights)
        name, built = architecture_of(weights, None, built["stem"], built["attention"])
        names, shape = (name,), replace(shape, num_classes=shape.num_classes or own.num_classes)
    if not names:
        known = ", ".join(known_names())
        raise UserError(f"name a model to profile, or give --run; models: {known}")
    if weights is not None and len(names) > 1:
        raise UserError("--weights belongs to one model; profile the others by themselves")
    built = built | _shape(shape)
    identified = tuple(identify(name, beside=names, **built) for name in names)
    return Subjects(identified, {identified[0]: weights} if weights else {}, test=test)


def _own_architecture(weights: str) -> senet.Architecture:
    """Return what a file of this project says it holds; UserError for another file."""
    own = None if is_pretrained_name(weights) else senet.read_architecture(weights)
    if own is None:
        raise UserError(f"{weights} does not say which model it is for: name it before --weights")
    return own


def of_run(
    run: Path, models: list[str] | None, weights: str | None, changes: dict[str, Any]
) -> Subjects:
    """Return a run's model and weights, tested on its own data save for what ``changes``."""
    if models or weights:
        raise UserError("--run brings its model and weights; give no model and no --weights")
    record = load_run(run)
    path = recorded_weights(run, record)
    required = changes.pop("required")
    test = TestSpec(
        data=validated(DataSpec, record.spec.data.model_dump() | changes),
        recipe=record.spec.recipe,
        classes=record.dataset.classes,
        required=required,
    )
    model = record.spec.model
    return Subjects((model,), {model: str(path)}, {model: record.id}, test)


def _shape(of: Shape) -> dict[str, int]:
    """Return the classes and image size to build for, without reading any image."""
    known = data.entry(of.dataset).num_classes.get(of.labels)
    num_classes = of.num_classes or known or _count_folders(of.dataset, of.data_dir)
    return {
        "num_classes": num_classes,
        "image_size": 32 if of.image_size is None else of.image_size,
    }


def _count_folders(dataset: str, data_dir: Path | None) -> int:
    if dataset != "folder":
        raise UserError(f"how many classes {dataset} has is not known here: give --num-classes")
    train = data_dir / "train" if data_dir else None
    if train is None or not train.is_dir():
        raise UserError("--dataset folder needs --data-dir with train/<class>/, or --num-classes")
    number = sum(path.is_dir() for path in train.iterdir())
    if number == 0:
        raise UserError(f"{train} holds no class folders")
    return number
