"""Test weights that are there already: a run's own, or a file from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import senet
from bench import data
from bench.compute import foreign, training_step
from bench.compute.model import (
    build,
    identify,
    is_pretrained_name,
    num_params,
    sketch,
    weights_facts,
)
from bench.errors import UserError
from bench.events import Event
from bench.execute import checks, lock, run_folder, train_run
from bench.machine import numerics as devices
from bench.machine.environment import collect_computing, utc_now
from bench.record.files import check_writable, sha256
from bench.record.read_write import write_record
from bench.record.run import Accuracy, RunRecord
from bench.report.read.plausible import contradiction
from bench.report.read.predictions import Contradicted, read_predictions
from bench.spec.model import attention_facts
from bench.spec.recipe import Recipe, get_recipe
from bench.spec.run import DataSpec, RunSpec
from bench.spec.values import validated
from bench.train import evaluate, predict

Emit = Callable[[Event], None]
TOLERANCE = 0.005  # of top-1: more is not rounding, on the same device and images
# How the command line calls the options of an attention that have an option of their own.
ATTENTION_FLAGS = {"bias": "se-bias", "divisor": "se-divisor"}


@dataclass(frozen=True)
class Rescored:
    """What testing saved weights found, and where they come from.

    ``recorded_top1`` is what the run's record says (None for a file), and ``same_images`` whether
    its test set was this one. It ``contradicts`` the record where nothing explains a difference.
    """

    source: str
    model: str
    stem: str | None
    dataset: str
    device: str
    precision: str
    accuracy: Accuracy
    normalization: data.Normalization
    recorded_top1: float | None = None
    same_images: bool | None = None
    record: str | None = None
    contradicts: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self) | {"accuracy": self.accuracy.model_dump()}


def rescore_run(
    folder: Path,
    *,
    device: str,
    precision: str | None,
    data_dir: Path | None,
    test_limit: int | None,
    emit: Emit,
) -> Rescored:
    """Test a run's weights on its own data set, as its recipe normalises it.

    Raises UserError when the folder has no record or no weights, or when the weights are not
    those of the record.
    """
    record = run_folder.load_run(folder)
    _check_consistent(folder, record)
    weights = recorded_weights(folder, record)
    changes = {"data_dir": str(data_dir) if data_dir else None, "test_limit": test_limit}
    given = {key: value for key, value in changes.items() if value is not None}
    spec = _changed(
        record.spec,
        data=record.spec.data.model_dump() | given,
        device=device,
        precision=precision or record.spec.precision,
        runtime=record.runtime or record.spec.runtime,
    )
    dataset, _ = train_run.load_data(spec.data, emit)
    if dataset.classes != record.dataset.classes:
        raise UserError(f"{folder} was trained for other classes than those of {dataset.label}")
    if not dataset.pixel_mean:  # the weights bring those of the images that they were trained on
        own = record.dataset
        dataset = replace(dataset, pixel_mean=own.pixel_mean, pixel_std=own.pixel_std)
    predictions, _, _ = _predict(spec, str(weights), dataset, emit)
    accuracy = evaluate.score(predictions, len(dataset.classes))
    is_same = dataset.digest == record.dataset.digest
    was = record.spec.device, record.spec.precision
    apart = abs(accuracy.top1 - record.test.top1) if record.test else 0.0
    return Rescored(
        source=str(folder),
        model=spec.model.name,
        stem=spec.model.stem,
        dataset=dataset.label,
        device=spec.device,
        precision=spec.precision,
        accuracy=accuracy,
        normalization=_normalization(spec, dataset),
        recorded_top1=record.test.top1 if record.test else None,
        same_images=is_same,
        contradicts=is_same and was == (spec.device, spec.precision) and apart > TOLERANCE,
    )


def _normalization(spec: RunSpec, dataset: data.Dataset) -> data.Normalization:
    return data.normalization(spec.recipe, dataset, spec.data.preprocessing)


def _check_consistent(folder: Path, record: RunRecord) -> None:
    """Raise UserError for a record that a report would set aside, in the report's words."""
    problem = None if record.status == "diverged" else contradiction(record)
    if problem is None and record.predictions is not None:
        try:
            read_predictions(folder / Path(record.predictions.name).name, record)
        except Contradicted as error:
            problem = str(error)
        except (OSError, ValueError):
            return  # what is not its own says nothing of it
    if problem is not None:
        raise UserError(f"{folder / run_folder.RECORD} contradicts itself: {problem}")


def recorded_weights(folder: Path, record: RunRecord) -> Path:
    """Return the file of a run's weights; UserError unless it is the one that the run wrote."""
    if record.weights is None:
        raise UserError(f"{folder} has no weights: the run is {record.status} ({record.reason})")
    path = folder / record.weights.name
    if not path.is_file():
        raise UserError(f"{folder} has no weights: {record.weights.name} is not there")
    if sha256(path) != record.weights.sha256:
        raise UserError(f"{path} is not what the run wrote: its SHA-256 differs from the record's")
    return path


def _changed(spec: RunSpec, **changes: Any) -> RunSpec:
    return validated(RunSpec, spec.model_dump() | changes)


def rescore_file(
    weights: str,
    data_spec: DataSpec,
    *,
    model: str | None,
    stem: str | None,
    recipe: Recipe | None,
    device: str,
    precision: str,
    out: Path | None,
    emit: Emit,
    attention: Mapping[str, Any] | None = None,
) -> Rescored:
    """Test a weights file; with ``out`` a record of it goes there, so that reports have it.

    A file that this project wrote knows its model. Raises UserError (or senet's ModelError) when
    the file is not of the model that is named.
    """
    model, options = architecture_of(weights, model, stem, dict(attention or {}))
    known = sketch(model, **options)
    data_spec = foreign.prepared(data_spec, known, weights)
    if recipe is not None and data_spec.preprocessing is not None:
        raise UserError(
            f"{weights} brings its own normalisation: --recipe and --normalization do not apply"
        )
    spec = validated(
        RunSpec,
        {
            "model": known,
            "data": data_spec,
            "recipe": recipe or get_recipe("standard"),
            "device": device,
            "precision": precision,
            "train": False,
            **weights_facts(weights),
        },
    )
    checks.check_runnable(spec)
    if out is not None:
        check_writable(out)
    dataset, data_s = train_run.load_data(data_spec, emit)
    spec = _changed(spec, model=identify(model, dataset, **options))
    folder = out / spec.folder_name() if out else None
    if folder is not None:
        _check_free(folder)
    predictions, build_s, eval_s = _predict(spec, weights, dataset, emit)
    accuracy = evaluate.score(predictions, len(dataset.classes))
    if folder is not None:
        with lock.held(folder):
            _check_free(folder)  # another process may have been quicker
            _keep(spec, dataset, predictions, accuracy, folder, (data_s, build_s, eval_s))
    return Rescored(
        source=weights,
        model=model,
        stem=spec.model.stem,
        dataset=dataset.label,
        device=device,
        precision=precision,
        accuracy=accuracy,
        normalization=_normalization(spec, dataset),
        record=str(folder / run_folder.RECORD) if folder else None,
    )


def architecture_of(
    weights: str, model: str | None, stem: str | None, attention: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return model and options: as named, then as the file says itself, then the defaults.

    UserError when the file says otherwise than what was named.
    """
    own = None if is_pretrained_name(weights) else senet.read_architecture(weights)
    if own is None:
        if model is None:
            raise UserError(f"{weights} does not say which model it is for: give --model")
        return model, {"stem": stem, "attention": attention}
    noted = attention_facts(own.attention) if own.attention else {}
    named: dict[str, tuple[Any, Any]] = {"model": (model, own.name), "stem": (stem, own.stem)}
    named |= {key: (value, noted.get(key)) for key, value in attention.items()}
    for option, (given, has) in named.items():
        if given is not None and given != has:
            flag = ATTENTION_FLAGS.get(option, option)
            raise UserError(f"{weights} holds {own}: --{flag} {given} does not fit it")
    arguments = {key: getattr(own, key) for key in ("shortcut", "dropout")}
    known = {key: value for key, value in arguments.items() if value is not None}
    return own.name, {"stem": own.stem, "attention": noted, "arguments": known}


def _check_free(folder: Path) -> None:
    check_writable(folder)
    if (folder / run_folder.RECORD).exists():
        raise UserError(
            f"{folder / run_folder.RECORD} is there already; records are never overwritten"
        )


def _predict(
    spec: RunSpec, weights: str, dataset: data.Dataset, emit: Emit
) -> tuple[evaluate.Predictions, float, float]:
    """Return the predictions, and the seconds for loading the model and for testing it."""
    devices.prepare(spec.device)
    begin = perf_counter()
    model = training_step.place(build(spec.model, weights=weights), spec.device, spec.runtime)
    loaded = perf_counter()
    try:
        predictions = predict.predict(model, dataset, spec, emit)
    except evaluate.NotFinite as problem:
        raise UserError(f"{weights}: {problem}, so there is no accuracy") from None
    return predictions, loaded - begin, perf_counter() - loaded


def _keep(
    spec: RunSpec,
    dataset: data.Dataset,
    predictions: evaluate.Predictions,
    accuracy: Accuracy,
    folder: Path,
    seconds: tuple[float, float, float],
) -> None:
    data_s, build_s, eval_s = seconds
    keep_freed = predict.keeps_freed(spec)
    record = RunRecord(
        id=spec.folder_name(),
        status="finished",
        created_at=utc_now(),
        spec=spec.located(),
        dataset=data.facts(dataset),
        environment=collect_computing(spec.device, spec.precision, keep_freed=keep_freed),
        params=num_params(build(spec.model)),
        epochs=(),
        test=accuracy,
        weights=None,
        predictions=run_folder.save_predictions(predictions, folder),
        data_s=data_s,
        build_s=build_s,
        eval_s=eval_s,
        checkpoint_s=0.0,
        warnings=dataset.notes,
        runtime=foreign.runtime(spec.model),
    )
    write_record(folder / run_folder.RECORD, record)
