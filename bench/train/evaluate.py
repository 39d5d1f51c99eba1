"""Classify a test set and count what is right. What is kept is each image's prediction."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.compute.ranking import rank
from bench.errors import UserError
from bench.machine import numerics as devices
from bench.record.files import write_whole
from bench.record.run import Accuracy
from bench.spec.values import Precision


class NotFinite(Exception):
    """The logits hold NaN or infinity: there is nothing to rank."""


@dataclass(frozen=True)
class Predictions:
    """One row an image, in the test set's order.

    ``labels`` (N,) int16; ``top5`` (N, K) int16, the K = min(5, classes) likeliest classes, best
    first; ``confidence`` (N,) float32, the softmax of the first; ``nll`` (N,) float32, the
    cross-entropy in nats.
    """

    labels: npt.NDArray[np.int16]
    top5: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]
    nll: npt.NDArray[np.float32]


@torch.inference_mode()
def predict(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: str,
    precision: Precision = "fp32",
) -> Predictions:
    """Classify all batches of images (B, C, H, W) and labels (B,) with the model in eval mode.

    The model's mode is put back afterwards. Raises `NotFinite` for NaN or infinite logits: the
    argmax of NaN is class 0, which would pass for an accuracy of 10 % on CIFAR-10.
    """
    was_training = model.training
    model.eval()
    try:
        parts = [_rank(*batch, model, device, precision) for batch in batches]
    finally:
        model.train(was_training)
    return _checked(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def of_logits(logits: Tensor, labels: Tensor) -> Predictions:
    """Return the predictions that logits (N, num_classes) are; NotFinite as in `predict`."""
    return _checked(*rank(logits, labels))


def _checked(labels: Tensor, top5: Tensor, confidence: Tensor, nll: Tensor) -> Predictions:
    if not bool(torch.isfinite(nll).all() and torch.isfinite(confidence).all()):
        raise NotFinite("the logits are not finite")
    own, ranked = (column.to(torch.int16).numpy() for column in (labels, top5))
    return Predictions(own, ranked, confidence.numpy(), nll.numpy())


def _rank(
    images: Tensor, labels: Tensor, model: nn.Module, device: str, precision: Precision
) -> tuple[Tensor, ...]:
    """Return labels, likeliest classes, confidence and nll of one batch, still on the device."""
    with devices.autocast(device, precision):
        logits = model(images)
    return rank(logits, labels)


def join(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several parts of a set, one after the other."""
    names = Predictions.__dataclass_fields__
    return Predictions(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def score(predictions: Predictions, num_classes: int) -> Accuracy:
    """Count the images whose label comes first (top-1) or among the first five (top-5)."""
    hits = predictions.top5 == predictions.labels[:, None]
    num_images = len(hits)
    top1 = int(hits[:, 0].sum())
    top5 = int(hits.any(axis=1).sum()) if num_classes > 5 else None
    return Accuracy(
        num_images=num_images,
        top1_correct=top1,
        top5_correct=top5,
        top1=top1 / num_images,
        top5=None if top5 is None else top5 / num_images,
        loss=float(predictions.nll.mean(dtype=np.float64)),
    )


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write the predictions as a compressed .npz, whole."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(predictions))
    write_whole(path, buffer.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote; no pickle is ever executed."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Predictions(**{name: arrays[name] for name in Predictions.__dataclass_fields__})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no predictions: {error}") from None
