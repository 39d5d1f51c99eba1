"""Any tree of ``train/<class>/*`` and ``test/<class>/*`` image files as a data set.

Decoded once; the tensors are kept in the user's cache, and used again for as long as no file's
name, size or time of change is another.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import PIL
import safetensors
import torch
from safetensors.torch import save_file

from bench.data.cache import cache_root
from bench.data.dataset import Dataset, Split, make_dataset
from bench.data.download import Progress
from bench.data.images import SUFFIXES, decode
from bench.errors import UserError
from bench.spec.run import DataSpec

TEST_FOLDERS = "test", "val"
CACHE_FORMAT = 1


@dataclass(frozen=True)
class Listing:
    """The files of one split and the label of each, (N,)."""

    paths: tuple[str, ...]  # strings: among 60,000 files Path objects cost seconds
    labels: np.ndarray


def load_folder(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Read the images below ``spec.data_dir`` at ``spec.image_size``.

    ``val`` stands in for a missing ``test``. Classes are the folders' names, sorted; hidden files
    and those without an image's suffix are passed over, folders inside of a class are searched.
    UserError says what is missing, and names an image that cannot be read. Links are followed.
    """
    root = _check_root(spec.data_dir)
    train_root, test_root = _split_folder(root, "train"), _split_folder(root, *TEST_FOLDERS)
    classes = _classes(train_root)
    _check_same(classes, _classes(test_root), test_root)
    train, test = _list_images(train_root, classes), _list_images(test_root, classes)
    label = spec.label or f"{root.name} (folder)"
    kept = _kept_at(root, spec.image_size)
    key = _fingerprint(spec.image_size, train, test)
    found = _read_kept(kept, key, label, classes)
    if found is not None:
        return found
    dataset = make_dataset(
        "folder",
        label,
        _decode(train, spec.image_size, "decoding training images", progress),
        _decode(test, spec.image_size, "decoding test images", progress),
        classes,
    )
    _keep(kept, key, dataset)
    return dataset


def _decode(listing: Listing, size: int, what: str, progress: Progress | None) -> Split:
    images = decode(listing.paths, size, what, progress)
    return Split(images, torch.from_numpy(listing.labels))


def _check_root(data_dir: str | None) -> Path:
    if data_dir is None:
        raise UserError(
            "dataset folder needs --data-dir, a folder with train/<class> and test/<class>"
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist")
    return root.resolve()


def _split_folder(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    wanted = " or ".join(f"{name}/" for name in names)
    raise UserError(
        f"the data folder {root} has no {wanted}; it needs train/<class> and test/<class>"
    )


def _classes(folder: Path) -> tuple[str, ...]:
    try:
        names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    if not names:
        raise UserError(f"{folder} holds no class folders")
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8
            raise UserError(f"{folder} holds a folder whose name is not UTF-8: {name!r}")
    return tuple(names)


def _check_same(train: tuple[str, ...], test: tuple[str, ...], test_root: Path) -> None:
    if missing := sorted(set(train) - set(test)):
        raise UserError(f"{test_root} has no class {missing[0]!r}, which the training split has")
    if extra := sorted(set(test) - set(train)):
        raise UserError(f"{test_root} has a class {extra[0]!r} that the training split has not")


def _list_images(folder: Path, classes: tuple[str, ...]) -> Listing:
    paths: list[str] = []
    counts = []
    for name in classes:
        found = sorted(_images_below(folder / name))
        if not found:
            raise UserError(f"{folder / name} holds no images ({', '.join(SUFFIXES)})")
        paths += found
        counts.append(len(found))
    return Listing(tuple(paths), np.repeat(np.arange(len(classes)), counts))


def _images_below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            if name[0] != "." and name.lower().endswith(SUFFIXES):
                yield os.path.join(parent, name)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}")


def _kept_at(root: Path, image_size: int) -> Path:
    name = hashlib.sha256(os.fsencode(f"{image_size} {root}")).hexdigest()[:16]
    return cache_root() / "folders" / f"{name}.safetensors"


def _fingerprint(image_size: int, *listings: Listing) -> str:
    """Return a digest of all that the decoded pixels depend on, short of the files' content."""
    sha = hashlib.sha256(f"{CACHE_FORMAT} {PIL.__version__} {image_size}".encode())
    for listing in listings:
        for path, label in zip(listing.paths, listing.labels, strict=True):
            found = _stat(path)
            facts = f"{path}\0{label}\0{found.st_size}\0{found.st_mtime_ns}\0"
            sha.update(os.fsencode(facts))
    return sha.hexdigest()


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except OSError as error:
        _unreadable(error)
    if not stat.S_ISREG(found.st_mode):  # to open a pipe or a terminal would wait for ever
        raise UserError(f"{path} cannot be read as an image: it is no regular file")
    return found


def _read_kept(path: Path, key: str, label: str, classes: tuple[str, ...]) -> Dataset | None:
    """Return the data set kept in ``path`` if it is that of ``key`` and every byte is as it was."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                return None
            train, test = (
                Split(file.get_tensor(f"{name}.images"), file.get_tensor(f"{name}.labels"))
                for name in ("train", "test")
            )
    except (OSError, safetensors.SafetensorError):
        return None
    dataset = make_dataset("folder", label, train, test, classes)
    return dataset if dataset.digest == facts.get("digest") else None


def _keep(path: Path, key: str, dataset: Dataset) -> None:
    """Write the tensors whole; a cache that cannot be written to only costs the next run time."""
    tensors = {
        f"{name}.{part}": getattr(getattr(dataset, name), part)
        for name in ("train", "test")
        for part in ("images", "labels")
    }
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=path.parent) as scratch:
            whole = Path(scratch) / path.name
            save_file(tensors, whole, metadata={"key": key, "digest": dataset.digest})
            whole.replace(path)
