"""A split where batches are made of it: padded once, laid out as the model wants it, uint8.

N, B: images of the split, of a batch. Bytes are held as (N, P, R, R, Q): planes, rows, columns and
channels beside each other, so that P, Q = 3, 1 when contiguous and 1, 3 in channels_last. R is the
image's side with the padding on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.dataset import Split
from bench.data.stored import Stored
from bench.machine import device_memory, devices

DEVICE_SHARE = 0.5  # of the free memory; weights, gradients and activations need the rest


@dataclass(frozen=True)
class DeviceSplit:
    """A split placed for a device: ``pixels`` uint8 (N, P, R, R, Q), ``labels`` int64 (N,).

    The labels are on ``device``; so are the pixels, unless ``on_host``: then they are too many for
    it and each batch is copied. ``warning`` says so. Images that are not in memory are read from
    ``stored``, and of ``pixels`` there is only the shape, with N = 0.
    """

    pixels: Tensor
    labels: Tensor
    device: str
    padding: int
    on_host: bool
    warning: str | None
    stored: Stored | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return self.pixels.shape[2] - 2 * self.padding


def place(
    split: Split,
    device: str,
    padding: int = 0,
    memory_format: torch.memory_format = torch.contiguous_format,
    device_bytes: int | None = None,
) -> DeviceSplit:
    """Pad a split with zeros and copy it to ``device``, if that leaves half of its memory free.

    Zeros are put around the raw images, as torchvision's RandomCrop does, so that a padded pixel
    becomes (0 - mean) / std. ``device_bytes`` stands in for the device's free memory.
    """
    is_host = devices.kind(device) == "cpu"
    if isinstance(split.images, Stored):
        none = _laid_out(split.images[:0], padding, memory_format)
        labels = split.labels.to(device)
        return DeviceSplit(none, labels, device, padding, not is_host, None, split.images)
    pixels = _laid_out(split.images, padding, memory_format)
    on_host, warning = False, None
    if not is_host or device_bytes is not None:
        free = device_memory.free_bytes(device) if device_bytes is None else device_bytes
        on_host = pixels.numel() > DEVICE_SHARE * free
        warning = _host_warning(pixels.numel(), free, device) if on_host else None
    if not on_host:
        pixels = pixels.to(device)
    return DeviceSplit(pixels, split.labels.to(device), device, padding, on_host, warning)


def _laid_out(images: Tensor, padding: int, memory_format: torch.memory_format) -> Tensor:
    padded = F.pad(images, (padding,) * 4) if padding else images
    if memory_format == torch.channels_last:
        return padded.permute(0, 2, 3, 1).contiguous().unsqueeze(1)
    return padded.unsqueeze(-1)


def _host_warning(num_bytes: int, free: int, device: str) -> str:
    return (
        f"a split of {num_bytes / 2**30:.1f} GiB is too large for {device} ({free / 2**30:.1f} GiB"
        " free): it stays in host memory and each batch is copied"
    )


def first_bytes(split: DeviceSplit, chosen: Tensor, crop: Tensor | None) -> Tensor:
    """Return where in the split's bytes the window of each chosen image begins, (N,) int64.

    ``crop`` (N, 2) is the top and left of each window in the padded image; without it, images
    are taken whole.
    """
    _, planes, side, _, depth = split.pixels.shape
    first = chosen * (planes * side * side * depth)
    return first if crop is None else first + (crop[:, 0] * side + crop[:, 1]) * depth


def windows(
    split: DeviceSplit, positions: Sequence[slice | Tensor], crop: Tensor | None, order: Tensor
) -> Iterator[Tensor]:
    """Yield the windows of the images at each of several positions (B,) of an epoch.

    ``order`` (N,) says which image stands where in the epoch, ``crop`` as for `first_bytes`.
    """
    if split.stored is None:
        first = first_bytes(split, order, crop)
        yield from (gather(split, first[part]) for part in positions)
        return
    read = split.stored.batches([order[part] for part in positions])
    memory_format = torch.channels_last if split.pixels.shape[4] > 1 else torch.contiguous_format
    for images, part in zip(read, positions, strict=True):
        pixels = _laid_out(images, split.padding, memory_format)
        batch = replace(split, pixels=pixels, stored=None)
        cut = None if crop is None else crop[part]
        yield gather(batch, first_bytes(batch, torch.arange(len(images)), cut))


def gather(split: DeviceSplit, first: Tensor) -> Tensor:
    """Return the windows that begin at the bytes ``first`` (B,), as uint8 (B, P, H, W, Q)."""
    rows, width = _rows_of_a_window(split)
    starts = (first[:, None] + rows).view(-1)
    cut = _by_row if first.device.type == "cpu" else _by_byte
    _, planes, _, _, depth = split.pixels.shape
    size = split.image_size
    return cut(split.pixels.view(-1), starts, width).view(len(first), planes, size, size, depth)


def _rows_of_a_window(split: DeviceSplit) -> tuple[Tensor, int]:
    """Return where its rows begin, seen from its first byte, and how many bytes are in each.

    Without padding the whole image is one row.
    """
    _, planes, side, _, depth = split.pixels.shape
    here = split.pixels.device
    if split.padding == 0:
        return torch.zeros(1, dtype=torch.int64, device=here), planes * side * side * depth
    rows = torch.arange(planes, device=here)[:, None] * side
    rows = rows + torch.arange(split.image_size, device=here)
    return rows.view(-1) * side * depth, split.image_size * depth


def _by_row(flat: Tensor, starts: Tensor, width: int) -> Tensor:
    """Return the ``width`` bytes from each start, (len(starts), width), copied row by row.

    In the view every byte begins a row, so that index_select moves whole rows: on a CPU eight
    times as fast as byte by byte.
    """
    every = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    return every.index_select(0, starts)


def _by_byte(flat: Tensor, starts: Tensor, width: int) -> Tensor:
    """Return the same, byte by byte: a GPU is as fast with it, and mps would unfold the view."""
    return flat[starts[:, None] + torch.arange(width, device=flat.device)]
