"""Images that are not held in memory: read from a mapped file, or decoded, batch by batch.

Both kinds are read by torch's DataLoader. Where decoding is the work, processes of their own do it
and hand over arrays through pipes: containers often have little shared memory.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from bench.data.images import Encoded, Unreadable, read_image
from bench.errors import UserError, one_line
from bench.machine.cores import usable_cores
from bench.record.run import Storage
from bench.spec.preprocessing import Preprocessing

Bytes = npt.NDArray[np.uint8]
FEW = 256  # images, for which starting processes is not worth it


class Items(Protocol):
    """The encoded images of a split and their labels, in order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Encoded, int]: ...

    def name(self, index: int) -> str:
        """Return what a user would find the image by."""
        ...


class Mapped:
    """Decoded images in a file of nothing else, ``shape`` (N, 3, S, S).

    The file is mapped anew for each batch, so that pages do not pile up in the process, and held
    open, so that it stays there when another process replaces it.
    """

    storage: ClassVar[Storage] = "mapped"
    num_workers = 0

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.file = path.open("rb")
        self.shape = shape

    def __getitems__(self, rows: list[int]) -> Bytes:
        return np.array(np.memmap(self.file, np.uint8, "r", shape=self.shape)[rows])


@dataclass(frozen=True)
class Chunk:
    """What came of decoding some images: the whole ones, and which others are not, and why."""

    images: Bytes
    labels: list[int]
    rows: list[int]
    bad: list[str]


@dataclass(frozen=True)
class Decoder:
    """Images decoded whenever they are asked for, at ``size`` pixels a side."""

    items: Items
    size: int
    preprocessing: Preprocessing | None = None
    storage: ClassVar[Storage] = "streamed"

    @property
    def num_workers(self) -> int:
        return usable_cores() if len(self.items) > FEW else 0

    def chunk(self, rows: list[int]) -> Chunk:
        images = np.empty((len(rows), 3, self.size, self.size), np.uint8)
        labels: list[int] = []
        whole: list[int] = []
        bad: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for row in rows:
                try:
                    encoded, label = self.items[row]
                    images[len(whole)] = read_image(encoded, self.size, self.preprocessing)
                    labels.append(int(label))
                    whole.append(row)
                except Unreadable as problem:
                    bad.append(f"{self.items.name(row)} cannot be read as an image: {problem}")
                except Exception as problem:  # what the readers of other libraries raise
                    bad.append(f"{self.items.name(row)} cannot be read: {one_line(problem)}")
        return Chunk(images[: len(whole)], labels, whole, bad)

    __getitems__ = chunk


class Stored:
    """Images as `Split.images` has them, uint8 (N, 3, S, S), of which a part is read at a time.

    ``rows`` (N,) int64 says which of the source's images they are.
    """

    def __init__(self, source: Mapped | Decoder, size: int, rows: Tensor) -> None:
        self.source, self.size, self.rows = source, size, rows

    @property
    def storage(self) -> Storage:
        return self.source.storage

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """Return the chosen images; UserError where one can no longer be read."""
        return _tensor(self.source.__getitems__(self.rows[chosen].tolist()))

    def taken(self, chosen: Tensor) -> Stored:
        """Return some of the images without reading them."""
        return Stored(self.source, self.size, self.rows[chosen])

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images at each of several positions (B,), read ahead of their use."""
        return map(_tensor, loaded(self.source, [self.rows[part].tolist() for part in chosen]))


def _tensor(read: Bytes | Chunk) -> Tensor:
    if isinstance(read, Chunk):
        if read.bad:
            raise UserError(read.bad[0])
        read = read.images
    return torch.from_numpy(read)


def loaded(source: Mapped | Decoder, batches: list[list[int]]) -> Iterator[Any]:
    """Yield what the source gives for each list of rows, in order."""
    loader: DataLoader[Any] = DataLoader(
        source,  # type: ignore[arg-type] # all that is asked of it is __getitems__
        batch_sampler=batches,
        num_workers=min(source.num_workers, len(batches)),
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # else it draws from the one that dropout draws from
    )
    return iter(loader)


def _as_it_is(read: Any) -> Any:
    return read


def _ignore_signals(worker: int) -> None:
    """Leave signals, which a terminal sends to all, to the process that the images are for."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
