"""Read a run's stored predictions, checked against its record, down to what statistics need."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.record.files import size_of_file
from bench.record.run import Accuracy, RunRecord
from bench.stats.accuracy import calibration_error

# A million test images take 24 MB; what unpacks to far more was made to fill a memory.
MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 256 * 2**20, 512 * 2**20


@dataclass(frozen=True)
class Predictions:
    """What a run said about each test image, N of them, in the order of the test set.

    ``labels`` and ``predicted`` are class indices (N,), ``correct`` and ``correct5`` tell whether
    the first and one of the five best are right (N,); ``test_set`` is equal for two runs exactly
    if their labels are; ``ece`` is the expected calibration error, ``nll`` the mean negative
    log-likelihood.
    """

    labels: NDArray[np.int16]
    predicted: NDArray[np.int16]
    correct: NDArray[np.bool_]
    correct5: NDArray[np.bool_]
    test_set: str
    ece: float
    nll: float


class Contradicted(ValueError):
    """The predictions are those that the record names, and do not say what it says of them."""


def _told(test: Accuracy) -> str:
    among = "" if test.top5_correct is None else f" and {test.top5_correct}"
    return f"{test.top1_correct}{among} of {test.num_images}"


def _agree(test: Accuracy, num_images: int, correct: int, correct5: int) -> bool:
    same5 = test.top5_correct is None or test.top5_correct == correct5
    return (test.num_images, test.top1_correct) == (num_images, correct) and same5


def read_predictions(path: Path, record: RunRecord) -> Predictions:
    """Return the predictions in ``path``; ValueError or OSError says why they are not usable.

    The file must have the SHA-256 that the record names, agree with the record's accuracy, and
    hold finite numbers; nothing in it is ever unpickled.
    """
    if size_of_file(path) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    content = path.read_bytes()
    if record.predictions and hashlib.sha256(content).hexdigest() != record.predictions.sha256:
        raise ValueError("not the file that the record names (its SHA-256 differs)")
    try:
        _refuse_bombs(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            labels, top5 = arrays["labels"], arrays["top5"]
            return _checked(labels, top5, arrays["confidence"], arrays["nll"], record)
    except KeyError as error:
        raise ValueError(f"no predictions in it ({error.args[0]})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError) as error:
        raise ValueError(f"not an .npz file ({error})") from None


def _refuse_bombs(content: bytes) -> None:
    """Raise ValueError when the file says that it unpacks to more than a test set's predictions."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise ValueError(f"it would unpack to {unpacked / 2**30:.1f} GiB")


def _checked(
    labels: NDArray[np.int16],
    top5: NDArray[np.int16],
    confidence: NDArray[np.float32],
    nll: NDArray[np.float32],
    record: RunRecord,
) -> Predictions:
    num_images, num_classes = len(labels), record.spec.model.num_classes
    if labels.dtype.kind not in "iu" or top5.dtype.kind not in "iu":
        raise ValueError("its classes are not whole numbers")
    if top5.ndim != 2 or not (len(top5) == len(confidence) == len(nll) == num_images > 0):
        raise ValueError("its arrays differ in length")
    if not (np.isfinite(confidence).all() and np.isfinite(nll).all()):
        raise ValueError("it holds numbers that are not finite")
    if min(labels.min(), top5.min()) < 0 or max(labels.max(), top5.max()) >= num_classes:
        raise ValueError(f"it holds classes outside 0 to {num_classes - 1}")
    hits = top5 == labels[:, None]
    correct = hits[:, 0]
    correct5 = hits.any(axis=1)
    found = (num_images, int(correct.sum()), int(correct5.sum()))
    if record.test and not _agree(record.test, *found):
        raise Contradicted(
            f"its predictions have {found[1]} right at first and {found[2]} among five of"
            f" {found[0]} images, its record says {_told(record.test)}"
        )
    return Predictions(
        labels=labels,
        predicted=np.ascontiguousarray(top5[:, 0]),
        correct=np.ascontiguousarray(correct),
        correct5=correct5,
        test_set=hashlib.sha256(labels.astype("<i2").tobytes()).hexdigest()[:12],
        ece=calibration_error(confidence, correct),
        nll=float(nll.mean(dtype=np.float64)),
    )


def class_counts(predictions: Predictions, num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix (true, predicted) of shape (num_classes, num_classes)."""
    flat = predictions.labels.astype(np.int64) * num_classes + predictions.predicted
    counts = np.bincount(flat, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)
