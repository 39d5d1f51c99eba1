"""A run lives in a folder of its own.

``run.json`` (the record, written last), ``weights.safetensors``, ``predictions.npz`` and the newest
checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import nn

import senet
from bench import data
from bench.errors import UserError
from bench.record.files import check_writable, remove_orphans, sha256
from bench.record.read_write import read_record
from bench.record.run import FileFacts, RunRecord
from bench.spec.run import RunSpec
from bench.train import checkpoint, evaluate

RECORD = "run.json"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.npz"
IfUnfinished = Literal["refuse", "resume", "restart"]


def if_unfinished(*, resume: bool, restart: bool) -> IfUnfinished:
    """Return what becomes of an unfinished run that is found; UserError for both flags."""
    if resume and restart:
        raise UserError("--resume and --restart exclude each other")
    return "resume" if resume else "restart" if restart else "refuse"


def _find(folder: Path, dataset: data.Dataset) -> RunRecord | None:
    """Return the record of a finished run, None when there is none."""
    if not (folder / RECORD).exists():
        check_writable(folder)
        return None
    return load_finished(folder, dataset)


def load_finished(folder: Path, dataset: data.Dataset) -> RunRecord:
    """Return the record of a run on ``dataset``; UserError for one on other images."""
    record = load_run(folder)
    if record.dataset.digest != dataset.digest:
        raise UserError(f"{folder} was trained on other images; choose another --out")
    return record


def check_unfinished(folder: Path, if_unfinished: IfUnfinished) -> None:
    """Raise UserError for an unfinished run that is neither to be continued nor thrown away."""
    finished = (folder / RECORD).exists()
    if if_unfinished == "refuse" and not finished and checkpoint.checkpoints(folder):
        raise UserError(f"{folder} holds an unfinished run; give --resume or --restart")


def unfinished_beside(spec: RunSpec, out: Path) -> list[Path]:
    """Return unfinished runs of the same model and data in ``out``, if this one is yet to begin.

    A run that is to be continued with another recipe or seed is a new one, in a folder of its own.
    """
    folder = out / spec.folder_name()
    if folder.is_dir() and ((folder / RECORD).exists() or checkpoint.checkpoints(folder)):
        return []
    beside = out.glob(f"{spec.model.file_name()}-{spec.data.name}-*/")
    return sorted(
        other
        for other in beside
        if other != folder and checkpoint.checkpoints(other) and not (other / RECORD).exists()
    )


def _take_over(folder: Path, if_unfinished: IfUnfinished) -> None:
    """Continue or throw away what an unfinished run left; the folder is this process'."""
    check_unfinished(folder, if_unfinished)
    remove_orphans(folder)
    if if_unfinished == "restart":
        checkpoint.remove_all(folder)


def load_run(folder: Path) -> RunRecord:
    """Return the record of the run in ``folder``; UserError when there is none that is whole."""
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{folder} holds no finished run (no {RECORD})")
    try:
        record = read_record(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, RunRecord):
        raise UserError(f"{path} is a {record.kind} record, not a run")
    return record


def _save_weights(model: nn.Module, folder: Path) -> FileFacts:
    senet.save_weights(model, folder / WEIGHTS)
    return FileFacts(name=WEIGHTS, sha256=sha256(folder / WEIGHTS))


def save_predictions(predictions: evaluate.Predictions, folder: Path) -> FileFacts:
    """Write the predictions into a run's folder and return name and hash."""
    evaluate.save_predictions(folder / PREDICTIONS, predictions)
    return FileFacts(name=PREDICTIONS, sha256=sha256(folder / PREDICTIONS))
