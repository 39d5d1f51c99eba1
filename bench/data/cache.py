"""Where data that was fetched or decoded is kept for the next time, and where images are held.

encoded images ──► decoded once ──► kept on disk ──► in memory, where a share of it is enough
                             │                  └──► mapped: batches are read from the file
                             └──► streamed, where the disk has no room: decoded for each batch
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from platformdirs import user_cache_path
from torch import Tensor

from bench.data.dataset import Dataset, Split, survey
from bench.data.download import ORPHAN_AGE_S, PART, Progress
from bench.data.stored import Bytes, Decoder, Items, Mapped, Stored, loaded
from bench.errors import UserError
from bench.machine import device_memory
from bench.spec.run import DataSpec

NAME = "senet-bench"
FORMAT = 3
MEMORY_SHARE = 0.25  # of what is free: to pad images and to hold some out makes copies
DISK_SHARE = 0.9  # of what is free
CHUNK = 64
FACTS, IMAGES = "facts.json", ".images"


def cache_root() -> Path:
    """Return the user's cache folder, or one for temporary files where there is no home."""
    root = user_cache_path(NAME)
    return root if root.is_absolute() else Path(tempfile.gettempdir()) / NAME


def named_folder(text: str) -> Path:
    """Return the path that a user names; UserError for one that no file system could have."""
    try:
        path = Path(text).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # may be made yet
            os.stat(path)  # complains of what no path may be: a name of 300 letters, a zero byte
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        shown = text if len(text) <= 100 else f"{text[:100]}…"
        raise UserError(f"the data folder {shown!r} cannot be read: {why}") from None
    return path


@dataclass(frozen=True)
class Encoded:
    """A data set before it is decoded.

    ``place`` says where it lies, and ``content`` is a digest of all that its pixels depend on,
    short of how they are decoded.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    place: str
    content: str
    train: Items
    test: Items


def decoded(encoded: Encoded, spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Return the data set at ``spec.image_size``, decoded now or as it was kept.

    The images are held in memory where they need a small share of what is free, else mapped from
    disk, else decoded for each batch: the same images in the same order. UserError names an image
    that cannot be read, unless ``spec.skip_bad`` passes over it, and a class without images.
    Where there is nothing to train on at all, that split is empty and its statistics are.
    """
    task = _Task(encoded, spec)
    splits, facts = _kept(task) or _made(task, progress)
    test = splits["test"]
    none = torch.empty(0, *test.images.shape[1:], dtype=torch.uint8)
    train = splits.get("train", Split(none, test.labels[:0]))
    return Dataset(
        *(encoded.name, encoded.label, train, test, encoded.classes),
        *(facts["digest"], tuple(facts["mean"]), tuple(facts["std"]), tuple(facts["notes"])),
        num_skipped=facts["skipped"],
    )


@dataclass(frozen=True)
class _Task:
    """What is to be decoded, how, and what follows from it."""

    encoded: Encoded
    spec: DataSpec

    @cached_property
    def decoders(self) -> dict[str, Decoder]:
        how = self.spec.image_size, self.spec.preprocessing
        items = {"train": self.encoded.train, "test": self.encoded.test}
        return {name: Decoder(some, *how) for name, some in items.items() if len(some) > 0}

    @cached_property
    def num_bytes(self) -> int:
        return sum(len(d.items) * 3 * d.size**2 for d in self.decoders.values())

    @cached_property
    def fits_memory(self) -> bool:
        return self.num_bytes <= MEMORY_SHARE * device_memory.free_bytes("cpu")

    @property
    def _how(self) -> str:
        return f"{self.spec.image_size} {self.spec.preprocessing} {self.spec.skip_bad}"

    @property
    def key(self) -> str:
        facts = f"{FORMAT} {PIL.__version__} {self._how} {self.encoded.content}"
        return hashlib.sha256(facts.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        place = os.fsencode(f"{self._how} {self.encoded.place}")
        return cache_root() / "decoded" / hashlib.sha256(place).hexdigest()[:16]


Splits = dict[str, Split]


def _kept(task: _Task) -> tuple[Splits, dict[str, Any]] | None:
    """Return the splits and their facts as they were kept, if nothing has changed since."""
    folder, splits = task.folder, {}
    try:
        facts = _read_facts(folder / FACTS)
        if facts["key"] != task.key:
            return None
        if any(_identity(folder / name) != was for name, was in facts["files"].items()):
            return None
        for name, decoder in task.decoders.items():
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                labels, rows = (torch.from_numpy(arrays[part]) for part in ("labels", "rows"))
            path = folder / f"{name}{IMAGES}"
            if path.name in facts["files"]:
                images = _read(path, len(rows), decoder.size, in_memory=task.fits_memory)
            elif task.fits_memory:  # there was less of it
                return None
            else:
                images = Stored(decoder, decoder.size, rows)
            splits[name] = Split(images, labels)
    except Exception:  # what others wrote there can fail in any way; it is made anew
        return None
    return splits, facts


def _read_facts(path: Path) -> dict[str, Any]:
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for ever
        raise ValueError("no file")
    written, _, text = path.read_text().partition("\n")
    if written != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError("not as it was written")
    facts: dict[str, Any] = json.loads(text)
    numbers, texts = [*facts["mean"], *facts["std"]], [facts["digest"], *facts["notes"]]
    if not all(isinstance(number, float) and 0 <= number <= 1 for number in numbers):
        raise ValueError("mean and deviation of no pixels")
    if not all(isinstance(text, str) for text in texts) or facts["skipped"] < 0:
        raise ValueError("of another kind")
    return facts


def _identity(path: Path) -> list[int]:
    """Return what is another as soon as a file is written to: its content need not be read."""
    found = os.stat(path)
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _read(path: Path, num: int, size: int, *, in_memory: bool) -> Tensor | Stored:
    shape = num, 3, size, size
    if in_memory:
        return torch.from_numpy(np.fromfile(path, np.uint8).reshape(shape))
    return Stored(Mapped(path, shape), size, torch.arange(num))


def _made(task: _Task, progress: Progress | None) -> tuple[Splits, dict[str, Any]]:
    """Decode a set, and keep it where that is possible; return its splits and their facts."""
    splits: Splits = {}
    bad: list[str] = []
    with contextlib.ExitStack() as stack:
        scratch = _scratch(task.folder.parent, stack)
        for name in task.decoders:
            splits[name], unread = _decode(task, name, scratch, progress)
            bad += unread
            _check_labels(splits[name], task.encoded, name)
        facts = {"key": task.key, "skipped": len(bad), **survey(splits, task.encoded.classes)}
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            facts["notes"].append(f"skipped: {bad[0]}{more}")
        if scratch:
            with contextlib.suppress(OSError):
                _keep(task, splits, facts, scratch)
    return splits, facts


def _scratch(parent: Path, stack: contextlib.ExitStack) -> Path | None:
    """Return a folder that is gone in the end unless renamed; None where there can be none."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for part in parent.glob(f".*{PART}"):  # of processes that were killed
            newest = max(path.stat().st_mtime for path in (part, *part.rglob("*")))
            if time.time() - newest > ORPHAN_AGE_S:
                shutil.rmtree(part, ignore_errors=True)
        made = tempfile.TemporaryDirectory(
            prefix=".", suffix=PART, dir=parent, ignore_cleanup_errors=True
        )
        scratch = Path(stack.enter_context(made)) / "set"
        scratch.mkdir()
    except OSError:
        return None
    return scratch


def _decode(
    task: _Task, name: str, scratch: Path | None, progress: Progress | None
) -> tuple[Split, list[str]]:
    """Decode a split into memory, a file, or both; return it and what could not be read."""
    what = "training" if name == "train" else name
    decoder = task.decoders[name]
    num, size = len(decoder.items), decoder.size
    path = scratch / f"{name}{IMAGES}" if scratch and _has_room(task, scratch) else None
    held = np.empty((num, 3, size, size) if task.fits_memory else 0, np.uint8)
    labels: list[int] = []
    rows: list[int] = []
    bad: list[str] = []
    file: BinaryIO | None = None
    with contextlib.suppress(OSError):
        file = path.open("wb") if path else None
    chunks = [list(range(start, min(start + CHUNK, num))) for start in range(0, num, CHUNK)]
    for chunk in loaded(decoder, chunks):
        if chunk.bad and not task.spec.skip_bad:
            raise UserError(f"{chunk.bad[0]}; --skip-bad passes over such images")
        if task.fits_memory:
            held[len(rows) : len(rows) + len(chunk.rows)] = chunk.images
        file = file and _written(file, chunk.images)
        labels += chunk.labels
        rows += chunk.rows
        bad += chunk.bad
        if progress:
            progress(f"decoding {what} images", len(rows) + len(bad), num)
    if file:
        file = _written(file, None)
    images: Tensor | Stored
    if task.fits_memory:
        images = torch.from_numpy(held[: len(rows)])
    elif path and file:
        images = _read(path, len(rows), size, in_memory=False)
    else:
        images = Stored(decoder, size, torch.tensor(rows, dtype=torch.int64))
    return Split(images, torch.tensor(labels, dtype=torch.int64)), bad


def _has_room(task: _Task, scratch: Path) -> bool:
    written = sum(path.stat().st_size for path in scratch.iterdir())
    return task.num_bytes - written <= DISK_SHARE * shutil.disk_usage(scratch).free


def _written(file: BinaryIO, images: Bytes | None) -> BinaryIO | None:
    """Write images, or with None all that is still to be; None once the disk takes no more."""
    try:
        if images is not None:
            file.write(images.data)
        else:
            file.flush()
            os.fsync(file.fileno())
            file.close()
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        return None
    return file


def _check_labels(split: Split, encoded: Encoded, name: str) -> None:
    """Raise UserError for labels that are no classes, and for a class without an image."""
    num = len(encoded.classes)
    labels = split.labels
    if len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) < num:
        raise UserError(f"the {name} images of {encoded.label} have no labels of {num} classes")
    counts = torch.bincount(labels, minlength=num)
    if int(counts.min()) == 0:
        missing = encoded.classes[int(counts.argmin())]
        raise UserError(f"{encoded.label} has no {name} image of class {missing!r} to be read")


def _keep(task: _Task, splits: Splits, facts: dict[str, Any], scratch: Path) -> None:
    """Put the set in its place in the cache, whole."""
    for name, split in splits.items():
        images = split.images
        if isinstance(images, Tensor) and not (scratch / f"{name}{IMAGES}").exists():
            return
        rows = images.rows if isinstance(images, Stored) else torch.arange(len(split))
        np.savez(scratch / f"{name}.npz", labels=split.labels.numpy(), rows=rows.numpy())
    facts = facts | {"files": {path.name: _identity(path) for path in scratch.iterdir()}}
    text = json.dumps(facts)
    (scratch / FACTS).write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    if task.folder.is_dir() and not task.folder.is_symlink():
        shutil.rmtree(task.folder)
    else:
        task.folder.unlink(missing_ok=True)
    scratch.rename(task.folder)
