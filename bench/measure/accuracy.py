"""What a session gets right: the whole test set through the very session that is timed.

test images ──► normalised ──► session, batch by batch ──► logits ──► beside eager fp32's
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from bench.compute.parity import reference_device
from bench.compute.ranking import rank
from bench.compute.session import Session, adapter, ready
from bench.data import Dataset, Normalization, place, test_batches
from bench.machine import numerics
from bench.record.deployment import DeploymentAccuracy
from bench.spec.values import Precision
from bench.stats.accuracy import paired, wilson
from bench.stats.hits import pack, unpack

CHUNK = 500  # images that are normalised together, however few a call takes
TOP1_TOLERANCE: dict[Precision, float] = {
    "fp32": 0.002,
    "tf32": 0.005,
    "bf16": 0.02,
    "fp16": 0.005,
    "int8": 0.1,
}
"""How much top-1 may differ from eager fp32's before a session is called wrong.

These find what is broken. What rounding and int8 cost within them is a result, not a fault.
"""
CHANGED_TOLERANCE: dict[Precision, float] = {
    "fp32": 0.01,
    "tf32": 0.05,
    "bf16": 0.3,
    "fp16": 0.05,
    "int8": 0.5,
}
"""Which share of the likeliest classes may differ: a network that knows little loses no top-1."""


@dataclass(frozen=True)
class TestSet:
    """A data set whose test images are classified, and the normalisation that weights expect."""

    __test__ = False  # pytest takes the name for a class of tests

    dataset: Dataset
    normalization: Normalization

    def __len__(self) -> int:
        return len(self.dataset.test)


@dataclass(frozen=True)
class Classified:
    """Logits (N, num_classes), float32 on the CPU, in the test set's order; ``seconds`` of it."""

    logits: Tensor
    seconds: float


Tell = Callable[[float], None]


def classify(
    session: Session,
    test_set: TestSet,
    batch_size: int,
    device: str,
    tell: Tell = lambda share: None,
) -> Classified:
    """Return the logits of all test images, in batches of exactly ``batch_size``.

    A session is made for one shape, so that the last batch is filled up with its first image. Call
    it within `bench.measure.workload.computing`. ``tell`` learns which share is done.
    """
    begin = perf_counter()
    logits: Tensor | None = None
    done = 0
    for images in _batches(test_set, batch_size, device):
        count = len(images)
        found = session.call(session.adapt(_filled_up(images, batch_size)))[:count]
        if logits is None:
            shape = len(test_set), found.shape[1]
            logits = torch.empty(shape, dtype=torch.float32, device=found.device)
        logits[done : done + count] = found
        done += count
        if done % CHUNK < batch_size:
            tell(done / len(test_set))
    assert logits is not None, "a test set has images"
    on_cpu = logits.cpu()  # waits for the device
    return Classified(on_cpu, perf_counter() - begin)


def _batches(test_set: TestSet, batch_size: int, device: str) -> Iterator[Tensor]:
    chunk = batch_size * max(1, CHUNK // batch_size)
    placed = place(test_set.dataset.test, device)
    for images, _ in test_batches(placed, chunk, test_set.normalization):
        yield from images.split(batch_size)


def _filled_up(images: Tensor, batch_size: int) -> Tensor:
    missing = batch_size - len(images)
    return torch.cat([images, images[:1].expand(missing, -1, -1, -1)]) if missing else images


def reference(network: nn.Module, test_set: TestSet, device: str) -> Tensor:
    """Return eager fp32's logits (N, num_classes) of all test images."""
    where = reference_device(device)
    eager = Session(ready(network, where, "fp32"), adapter(where, "fp32"))
    size = min(CHUNK, len(test_set))
    with numerics.computing_in(where, "fp32"), torch.no_grad():
        return classify(eager, test_set, size, where).logits


def accuracy(classified: Classified, expected: Tensor, test_set: TestSet) -> DeploymentAccuracy:
    """Return what is right in a session's logits, beside eager fp32's (N, num_classes)."""
    logits, labels = classified.logits, test_set.dataset.test.labels
    ranked = rank(logits, labels).classes
    best, best_expected = ranked[:, 0], rank(expected, labels).classes[:, 0]
    hits, expected_hits = best == labels, best_expected == labels
    top5 = None
    if logits.shape[1] > 5:
        top5 = int((ranked == labels[:, None]).any(dim=1).sum())
    classes = best.numpy().astype("<i2")
    return DeploymentAccuracy(
        dataset=test_set.dataset.label,
        digest=test_set.dataset.digest,
        num_images=len(labels),
        top1_correct=int(hits.sum()),
        top5_correct=top5,
        predictions_sha256=hashlib.sha256(classes.tobytes()).hexdigest(),
        hits=pack(hits.numpy()),
        reference_hits=pack(expected_hits.numpy()),
        changed=int((best != best_expected).sum()),
        logit_error=float((logits - expected).abs().max() / expected.abs().max()),
        seconds=classified.seconds,
    )


def is_finite(classified: Classified) -> bool:
    """Tell whether there is something to rank: the argmax of NaN is class 0."""
    return bool(torch.isfinite(classified.logits).all())


def accuracy_problem(found: DeploymentAccuracy, precision: Precision) -> str | None:
    """Return in words why a session's accuracy is not that of the network, None where it is.

    It is wrong where the whole paired interval of the difference lies beyond the tolerance, or
    that of the share of changed classes does.
    """
    sizes = found.num_images
    if wilson(found.changed, sizes).low > CHANGED_TOLERANCE[precision]:
        return (
            f"{found.changed:,} of {sizes:,} test images get another class than from eager fp32"
            f" (tolerance {100 * CHANGED_TOLERANCE[precision]:g} %)"
        )
    difference = paired(unpack(found.reference_hits, sizes), unpack(found.hits, sizes))
    tolerance = TOP1_TOLERANCE[precision]
    low, high = difference.interval.low, difference.interval.high
    if low <= tolerance and high >= -tolerance:
        return None
    return (
        f"top-1 is {100 * found.top1:.2f} %,"
        f" {100 * difference.interval.estimate:+.2f} points from eager fp32's"
        f" ({100 * low:+.2f} to {100 * high:+.2f}; tolerance {100 * tolerance:g})"
    )
