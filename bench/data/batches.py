"""The on-device input pipeline: images held as uint8, a few vectorised operations a batch.

B, C, H, W: batch, channels, height, width; P and Q as in `bench.data.placing`. Images are cropped
and mirrored as bytes, then become (x / 255 - mean) / std, as ToTensor and Normalize make them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.augment import EpochPlan
from bench.data.dataset import Dataset
from bench.data.placing import DeviceSplit, windows
from bench.errors import UserError, unknown
from bench.machine import device_memory as devices
from bench.spec.preprocessing import Preprocessing
from bench.spec.recipe import Recipe

HALF = (0.5, 0.5, 0.5)
NUM_AHEAD = 2  # batches that are on their way while one is computed with

Positions = slice | Tensor


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# By what pixels are normalised: a fixed mean and deviation, or ``None`` for the training set's own.
NORMALIZATIONS: dict[str, Normalization | None] = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": Normalization(HALF, HALF),
    "pixels": None,
}


def named_normalization(name: str, dataset: Dataset) -> Normalization:
    """Return mean and deviation by name (`NORMALIZATIONS`); UserError for an unknown one.

    It is one too where those of training images are wanted and there are none. A channel of one
    value is not divided.
    """
    if name not in NORMALIZATIONS:
        raise unknown("normalization", name, NORMALIZATIONS)
    if (fixed := NORMALIZATIONS[name]) is not None:
        return fixed
    if not dataset.pixel_mean:
        raise UserError(
            f"{dataset.label} has no training images, by whose mean and deviation weights would be"
            " tested: give --normalization imagenet or half"
        )
    return Normalization(dataset.pixel_mean, tuple(std or 1.0 for std in dataset.pixel_std))


def normalization(
    recipe: Recipe, dataset: Dataset, preprocessing: Preprocessing | None = None
) -> Normalization:
    """Return what the recipe subtracts and divides by, or what weights bring with them."""
    if preprocessing is not None:
        return Normalization(preprocessing.mean, preprocessing.std)
    return named_normalization(recipe.normalization, dataset)


def num_steps(num_images: int, recipe: Recipe) -> int:
    """Return the steps of one epoch; a batch larger than the set is refused (UserError)."""
    size = recipe.batch_size
    if size > num_images:
        raise UserError(f"batch size {size} is larger than the training set ({num_images} images)")
    return num_images // size if recipe.drop_last else -(-num_images // size)


def share(step: int, num_images: int, batch_size: int, rank: int, world_size: int) -> slice:
    """Return the positions of the epoch that one process takes in one step.

    The shares of a step are disjoint, cover its batch, and differ by one image at most; a last
    batch smaller than ``world_size`` leaves some of them empty.
    """
    start = step * batch_size
    size = min(batch_size, num_images - start)
    return slice(start + rank * size // world_size, start + (rank + 1) * size // world_size)


def train_batches(
    split: DeviceSplit,
    plan: EpochPlan,
    recipe: Recipe,
    normalization: Normalization,
    start_step: int = 0,
    *,
    num_classes: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the augmented images, float32 (B, C, H, W), and the targets of each step left.

    Targets are labels, int64 (B,), or with Mixup the shares of the classes, float32
    (B, ``num_classes``); cross-entropy takes either. The images lie in the split's memory format.
    With several processes each gets its share of every global batch of ``recipe.batch_size``.
    """
    assert split.padding == recipe.crop_padding, "the split was placed for another recipe"
    steps = range(start_step, num_steps(len(plan), recipe))
    spans = [share(step, len(plan), recipe.batch_size, rank, world_size) for step in steps]
    here, there = _on(plan, split.pixels.device), _on(plan, split.device)
    scale = _scale(normalization, split)
    cut = windows(split, [_positions(here, span) for span in spans], here.crop, here.order)
    pixels = _delivered(cut, split)
    for span, batch in zip(spans, pixels, strict=True):
        positions = _positions(there, span)
        images = _images(_normalize(_mirror(batch, there.flip, positions), *scale))
        images = _cut_out(images, there.cutout, recipe.cutout_size, positions)
        images = _erase(images, there.erasing, positions)
        labels = split.labels[there.order[positions]]
        yield _mix(images, labels, there.mix_kept, span, num_classes)


def test_batches(
    split: DeviceSplit, batch_size: int, normalization: Normalization
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order and unaugmented, float32 (B, C, H, W), with its label."""
    assert split.padding == 0, "the split was placed for training"
    scale = _scale(normalization, split)
    if split.stored is None:
        whole = iter(split.pixels.split(batch_size))
    else:
        order = torch.arange(len(split))
        whole = windows(split, order.split(batch_size), None, order)
    pixels = _delivered(whole, split)
    for batch, labels in zip(pixels, split.labels.split(batch_size), strict=True):
        yield _images(_normalize(batch, *scale)), labels


def _on(plan: EpochPlan, device: str | torch.device) -> EpochPlan:
    moved = {
        field.name: getattr(plan, field.name).to(device)
        for field in fields(plan)
        if getattr(plan, field.name) is not None
    }
    return replace(plan, **moved)


def _positions(plan: EpochPlan, span: slice) -> Positions:
    """Return where in the epoch a step's images stand, with Mixup their partners after them."""
    if plan.mix_partner is None:
        return span
    own = torch.arange(span.start, span.stop, device=plan.mix_partner.device)
    return torch.cat([own, plan.mix_partner[span]])


def _delivered(batches: Iterator[Tensor], split: DeviceSplit) -> Iterator[Tensor]:
    """Yield batches on the split's device, those from host memory copied ahead of their use."""
    if not split.on_host:
        yield from batches
        return
    send = devices.sender(split.device)
    with ThreadPoolExecutor(max_workers=1) as pool:

        def next_sent() -> Callable[[], Tensor] | None:
            batch = next(batches, None)
            return None if batch is None else send(batch)

        ahead = deque(pool.submit(next_sent) for _ in range(NUM_AHEAD))
        while receive := ahead.popleft().result():
            ahead.append(pool.submit(next_sent))
            yield receive()


def _mirror(batch: Tensor, flip: Tensor | None, positions: Positions) -> Tensor:
    if flip is None:
        return batch
    # One of two copies is selected whole: where() with a mask per image is ten times as slow.
    both = torch.cat([batch, batch.flip(3)])
    which = torch.arange(len(batch), device=batch.device) + len(batch) * flip[positions]
    return both.index_select(0, which)


def _scale(normalization: Normalization, split: DeviceSplit) -> tuple[Tensor, Tensor]:
    """Return what to subtract from a byte and then to multiply by, (P, H, W, Q) each."""
    _, planes, _, _, depth = split.pixels.shape
    shape = planes, split.image_size, split.image_size, depth

    def spread(values: list[float]) -> Tensor:
        # As large as an image, so that channels_last has no inner loop of three numbers.
        channels = torch.tensor(values, dtype=torch.float32).view(planes, 1, 1, depth)
        return channels.expand(shape).contiguous().to(split.device)

    return (
        spread([255 * mean for mean in normalization.mean]),
        spread([1 / (255 * std) for std in normalization.std]),
    )


def _normalize(batch: Tensor, subtrahend: Tensor, factor: Tensor) -> Tensor:
    return batch.to(torch.float32).sub_(subtrahend).mul_(factor)


def _images(batch: Tensor) -> Tensor:
    """View (B, P, H, W, Q) as (B, C, H, W), channels_last where P is 1."""
    return batch.squeeze(4) if batch.shape[1] > 1 else batch.squeeze(1).permute(0, 3, 1, 2)


def _cut_out(images: Tensor, centre: Tensor | None, size: int, positions: Positions) -> Tensor:
    """Set a square of ``size`` pixels around each centre to zero (the mean, once normalised)."""
    if centre is None:
        return images
    first = (centre[positions] * images.shape[-1]).floor() - size // 2
    top, left = first[:, 0], first[:, 1]
    return _zero(images, torch.stack([top, top + size, left, left + size], dim=1))


def _erase(images: Tensor, boxes: Tensor | None, positions: Positions) -> Tensor:
    """Set each erased box to zero: the fill of torchvision's RandomErasing, not random pixels."""
    return images if boxes is None else _zero(images, (boxes[positions] * images.shape[-1]).round())


def _zero(images: Tensor, boxes: Tensor) -> Tensor:
    """Zero what lies in boxes (B, 4): rows from top to bottom, columns from left to right."""
    line = torch.arange(images.shape[-1], device=images.device)
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _mix(
    images: Tensor, labels: Tensor, kept: Tensor | None, span: slice, num_classes: int | None
) -> tuple[Tensor, Tensor]:
    """Return x = k * own + (1 - k) * partner, and the same of the labels as shares of classes."""
    if kept is None:
        return images, labels
    assert num_classes is not None, "Mixup needs the number of classes"
    shares = F.one_hot(labels, num_classes).to(torch.float32)
    mixed = []
    for both in (images, shares):
        own, partner = both.chunk(2)
        keep = kept[span].view(-1, *(1,) * (own.ndim - 1))
        mixed.append(own * keep + partner * (1 - keep))
    return mixed[0], mixed[1]
