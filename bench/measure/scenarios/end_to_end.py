"""From encoded images to classes: what a user of a session waits for.

JPEG in memory ──► decoded ──► resized ──► normalised ──► on the device ──► logits ──► class
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.compute.session import Session
from bench.measure.accuracy import TestSet
from bench.measure.clock import Clock
from bench.record.deployment import EndToEndFacts
from bench.record.profile import TimingFacts

PARTS = ("decode", "resize", "normalise", "copy", "model", "argmax")
NUM_ENCODED = 256
QUALITY = 95
MIN_BATCHES = 3
SHARE_OF_TIME = 0.7  # for whole batches; the rest is for their parts, each waited for


@dataclass(frozen=True)
class Source:
    """Encoded images, the size to resize to, and what normalises pixels in [0, 255]."""

    encoded: Sequence[bytes]
    image_size: int
    mean: Tensor
    factor: Tensor
    words: str


def source_of(test_set: TestSet | None, image_size: int) -> Source:
    """Return test images as JPEG files in memory, or drawn gradients where there is no data set."""
    if test_set is None:
        pixels = _gradients(image_size)
        mean: tuple[float, ...] = (0.5, 0.5, 0.5)
        std = mean
        words = f"JPEG, drawn, {image_size}×{image_size}"
    else:
        pixels = test_set.dataset.test.images[:NUM_ENCODED]
        mean, std = test_set.normalization.mean, test_set.normalization.std
        words = f"JPEG, {test_set.dataset.label}, {pixels.shape[-1]}×{pixels.shape[-1]}"
    return Source(
        tuple(map(_encode, pixels)),
        image_size,
        255 * torch.tensor(mean).view(1, 3, 1, 1),
        1 / (255 * torch.tensor(std)).view(1, 3, 1, 1),
        words,
    )


def _gradients(image_size: int) -> Tensor:
    """Return smooth images (32, 3, H, W), which encode about as photographs do."""
    draw = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(32, 3, 8, 8, generator=draw)
    size = (image_size, image_size)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").to(torch.uint8)


def _encode(image: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _steps(source: Source, session: Session) -> dict[str, Callable[[Any], Any]]:
    """Return what is done to a batch of files, in order."""

    def decode(files: Sequence[bytes]) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]

    def resize(images: list[Image.Image]) -> list[Image.Image]:
        size = (source.image_size, source.image_size)
        return [i if i.size == size else i.resize(size, Image.Resampling.BILINEAR) for i in images]

    def normalise(images: list[Image.Image]) -> Tensor:
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        batch = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return batch.sub_(source.mean).mul_(source.factor)

    def argmax(logits: Tensor) -> list[int]:
        return list(logits.argmax(dim=1).tolist())

    calls = (decode, resize, normalise, session.adapt, session.call, argmax)
    return dict(zip(PARTS, calls, strict=True))


def measure(
    session: Session, source: Source, batch_size: int, max_s: float, clock: Clock
) -> tuple[TimingFacts, EndToEndFacts]:
    """Time whole batches, then their parts; both begin with files that are in memory."""
    steps = _steps(source, session)
    following = itertools.cycle(source.encoded).__next__

    def batch() -> list[bytes]:
        return [following() for _ in range(batch_size)]

    def whole() -> float:
        files: Any = batch()
        begin = clock.read()
        for step in steps.values():
            files = step(files)
        return clock.read() - begin

    first_s = whole()
    totals = _until(SHARE_OF_TIME * max_s, whole, clock)
    parts = _until((1 - SHARE_OF_TIME) * max_s, lambda: _in_parts(steps, batch(), clock), clock)
    timing = TimingFacts(
        block_s=tuple(totals),
        block_iters=(1,) * len(totals),
        first_call_s=first_s,
        warmup_s=0.0,
        warmup_iters=1,
        steady=True,
        block_round=tuple(range(len(totals))),
    )
    seconds = {name: sum(one[name] for one in parts) for name in PARTS}
    facts = EndToEndFacts(source=source.words, part_s=seconds, num_images=batch_size * len(parts))
    return timing, facts


def _until(limit_s: float, work: Callable[[], Any], clock: Clock) -> list[Any]:
    begin = clock.read()
    found: list[Any] = []
    while len(found) < MIN_BATCHES or clock.read() - begin < limit_s:
        found.append(work())
    return found


def _in_parts(steps: dict[str, Callable[[Any], Any]], files: Any, clock: Clock) -> dict[str, float]:
    """Return the seconds of each part, the device waited for after it."""
    found = {}
    for name, step in steps.items():
        begin = clock.read()
        files = step(files)
        found[name] = clock.read() - begin
    return found
