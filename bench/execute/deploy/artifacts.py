"""Write a run as the artefact that is timed, and test artefacts.

run's folder ──► network ──► session ──► file, and beside it what it is
file ──► session ──► whole test set ──► accuracy
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.compute import inference
from bench.compute.exchange import artifact
from bench.compute.int8.calibration import Calibration, from_training
from bench.compute.model import build
from bench.compute.session import Session, Unsupported
from bench.data import NORMALIZATIONS, Dataset, normalization
from bench.errors import UserError, unknown
from bench.events import Emit
from bench.execute import run_folder
from bench.execute.deploy.test_sets import check_fits
from bench.execute.evaluate_weights import Rescored, recorded_weights
from bench.execute.train_run import load_data
from bench.machine import numerics
from bench.machine.environment import package_versions, utc_now
from bench.measure.accuracy import TestSet, classify
from bench.measure.workload import computing, random_images
from bench.record.deployment import ArtifactRecord, QuantizationFacts
from bench.record.files import check_writable, sha256, write_whole
from bench.record.run import FileFacts, RunRecord
from bench.spec.recipe import Recipe, get_recipe
from bench.spec.run import DataSpec
from bench.spec.values import Precision, first_problem, validated
from bench.train import evaluate

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Wanted:
    """What to export: ``to`` onnx, openvino or pt2; int8 is calibrated on training images."""

    to: str
    precision: Precision = "fp32"
    batch_size: int = 1
    calibration_images: int = 256
    calibration_seed: int = 0


def record_path(path: Path) -> Path:
    """Return where the record of an artefact stands: beside it."""
    return path.with_name(f"{path.name}.json")


def export(
    folder: Path, wanted: Wanted, out: Path | None, data_dir: Path | None, emit: Emit
) -> tuple[Path, ArtifactRecord]:
    """Write the artefact of a run that the runtime of its kind times, and its record beside it.

    Raises UserError for a run without weights, for a kind or a precision that there is not, for
    what is there already, and where int8 has too few training images or did nothing.
    """
    _check(wanted)
    record = run_folder.load_run(folder)
    weights = recorded_weights(folder, record)
    name = f"{record.id}-{wanted.precision}-b{wanted.batch_size}{artifact.ENDINGS[wanted.to]}"
    path = out or Path("exports") / name
    if path.suffix != artifact.ENDINGS[wanted.to]:
        raise UserError(f"{path} is not named {artifact.ENDINGS[wanted.to]}, as {wanted.to} is")
    for place in (path, record_path(path)):
        if place.exists():
            raise UserError(f"{place} is there already; nothing is overwritten")
    check_writable(path.parent)
    dataset = _dataset(record, data_dir, emit) if wanted.precision == "int8" else None
    session, made = _session(record, weights, wanted, dataset)
    assert session.save is not None, "an artefact can be saved"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        session.save(path)
        told = _record(path, record, weights, wanted, session, made)
        write_whole(record_path(path), (told.model_dump_json(indent=2) + "\n").encode())
    except BaseException:  # nothing half-written
        for place in (*_files(path), record_path(path)):
            with contextlib.suppress(OSError):
                place.unlink()
        raise
    return path, told


def _check(wanted: Wanted) -> None:
    if wanted.to not in artifact.RUNTIMES:
        raise unknown("kind of artefact", wanted.to, artifact.RUNTIMES)
    if wanted.precision not in PRECISIONS:
        raise unknown("precision to export in", wanted.precision, PRECISIONS)
    inference.check([artifact.RUNTIMES[wanted.to]], [wanted.precision])


def _dataset(record: RunRecord, data_dir: Path | None, emit: Emit) -> Dataset:
    """Return the run's data set, of whose training split int8 takes its images."""
    changes = {"data_dir": str(data_dir)} if data_dir else {}
    spec = validated(DataSpec, record.spec.data.model_dump() | changes)
    dataset, _ = load_data(spec, emit)
    check_fits(record.spec.model, dataset, record.dataset.classes)
    return dataset


def _session(
    record: RunRecord, weights: Path, wanted: Wanted, dataset: Dataset | None
) -> tuple[Session, QuantizationFacts | None]:
    numerics.prepare("cpu")
    model, runtime = record.spec.model, artifact.RUNTIMES[wanted.to]
    network = build(model, weights=str(weights)).eval()
    example = random_images(wanted.batch_size, model.image_size, seed=0)
    calibration = _calibration(record, wanted, dataset)
    try:
        with computing("cpu", wanted.precision, "infer"):
            session = inference.make(
                runtime, network, example, "cpu", wanted.precision, calibration
            )
            if session.quantized is None:
                return session, None
            session.call(session.adapt(example))
            made = session.quantized()
    except Unsupported as error:
        raise UserError(str(error)) from None
    if made.int8_operators == 0:
        raise UserError(f"none of {made.operators} operators computes in int8; nothing is written")
    return session, made


def _calibration(record: RunRecord, wanted: Wanted, dataset: Dataset | None) -> Calibration | None:
    if dataset is None:
        return None
    how = normalization(record.spec.recipe, dataset, record.spec.data.preprocessing)
    return from_training(dataset, how, wanted.calibration_images, wanted.calibration_seed)


def _files(path: Path) -> list[Path]:
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _record(
    path: Path,
    record: RunRecord,
    weights: Path,
    wanted: Wanted,
    session: Session,
    made: QuantizationFacts | None,
) -> ArtifactRecord:
    facts, how = record.dataset, record.spec.data.preprocessing
    fixed = NORMALIZATIONS[record.spec.recipe.normalization]
    mean, std = (fixed.mean, fixed.std) if fixed else (facts.pixel_mean, facts.pixel_std)
    return ArtifactRecord(
        created_at=utc_now(),
        run_id=record.id,
        weights_sha256=sha256(weights),
        model=record.spec.model,
        classes=facts.classes,
        data=record.spec.data,
        recipe=record.spec.recipe,
        pixel_mean=how.mean if how else mean,
        pixel_std=how.std if how else std,
        runtime=artifact.RUNTIMES[wanted.to],
        precision=wanted.precision,
        batch_size=wanted.batch_size,
        files=tuple(FileFacts(name=file.name, sha256=sha256(file)) for file in _files(path)),
        weight_bytes=session.weight_bytes,
        quantization=made,
        packages=package_versions(),
    )


def read_record(path: Path) -> ArtifactRecord | None:
    """Return the record beside an artefact, None where there is none.

    Raises UserError for one that cannot be read, and for files that are not those it is of.
    """
    place = record_path(path)
    if not place.is_file():
        return None
    try:
        record = ArtifactRecord.model_validate(json.loads(place.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise UserError(f"{place} is no record of an artefact: {first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{place} is no record of an artefact: {error}") from None
    for file in record.files:
        beside = path.parent / Path(file.name).name
        if not beside.is_file():
            raise UserError(f"{path} has no {file.name} beside it")
        if sha256(beside) != file.sha256:
            raise UserError(f"{beside} is not what was exported: its SHA-256 is not the record's")
    return record


def evaluate_artifact(
    path: Path, data: DataSpec | None, recipe: Recipe | None, data_dir: Path | None, emit: Emit
) -> Rescored:
    """Put the whole test set through an artefact.

    Its record says on which data set, normalised how; ``data`` and ``recipe`` are for an artefact
    without one. Raises UserError for what cannot be tested.
    """
    if not path.is_file() or path.stat().st_size == 0:  # which may be one that is waited for
        raise UserError(f"{path} is not there, or it is empty")
    record = read_record(path)
    if record is None and data is None:
        raise UserError(f"{path} has no record beside it: give --dataset, and --recipe")
    changes = {"data_dir": str(data_dir)} if data_dir else {}
    known = record.data.model_dump() | changes if record else {}
    spec = data or validated(DataSpec, known)
    dataset, _ = load_data(spec, emit)
    plan = recipe or (record.recipe if record else get_recipe("standard"))
    if record is not None:
        check_fits(record.model, dataset, record.classes)
    numerics.prepare("cpu")
    session, batch_size = artifact.read(path, dataset.image_size)
    test_set = TestSet(dataset, normalization(plan, dataset, spec.preprocessing))
    with computing("cpu", "fp32", "infer"):
        logits = classify(session, test_set, batch_size, "cpu").logits
    if logits.shape[1] != len(dataset.classes):
        raise UserError(
            f"{path} gives {logits.shape[1]} logits; {dataset.label} has"
            f" {len(dataset.classes)} classes"
        )
    try:
        predictions = evaluate.of_logits(logits, dataset.test.labels)
    except evaluate.NotFinite as problem:
        raise UserError(f"{path}: {problem}, so there is no accuracy") from None
    return Rescored(
        source=str(path),
        model=record.model.name if record else path.stem,
        stem=record.model.stem if record else None,
        dataset=dataset.label,
        device="cpu",
        precision=record.precision if record else "as it is",
        accuracy=evaluate.score(predictions, len(dataset.classes)),
        normalization=test_set.normalization,
    )
