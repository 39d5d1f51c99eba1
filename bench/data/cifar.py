"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their official python layout.

Every file's MD5 is compared with the published sum before anything in it is interpreted. URLs and
sums are those of torchvision.datasets. Its readers are not used: they open each file twice, to sum
and to read, unpickle with all that pickle can do, and drop CIFAR-100's coarse labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.cache import cache_root, named_folder
from bench.data.dataset import Dataset, Split, make_dataset
from bench.data.download import Progress, Unreachable, download, md5, md5_of_file, unpack
from bench.data.safe_pickle import loads_arrays
from bench.errors import UserError
from bench.spec.run import DataSpec

SIZE = 32
PIXELS = 3 * SIZE * SIZE


@dataclass(frozen=True)
class Source:
    """Where a set is published and what its files are: name to MD5.

    ``label_keys`` and ``class_keys`` name, for each choice of labels, the entry of a batch and of
    the meta file.
    """

    name: str
    title: str
    url: str
    archive: str
    archive_md5: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    label_keys: dict[str, str]
    class_keys: dict[str, str]

    @property
    def files(self) -> dict[str, str]:
        return self.train | self.test | self.meta


def official(name: str) -> Source:
    """Return the source of ``cifar10`` or ``cifar100`` as torchvision states it."""
    from torchvision import datasets  # takes half a second that other data sets need not wait for

    if name == "cifar10":
        keys = {"fine": "labels"}, {"fine": "label_names"}
        return _from_torchvision(datasets.CIFAR10, name, "CIFAR-10", *keys)
    keys = (
        {"fine": "fine_labels", "coarse": "coarse_labels"},
        {"fine": "fine_label_names", "coarse": "coarse_label_names"},
    )
    return _from_torchvision(datasets.CIFAR100, name, "CIFAR-100", *keys)


def _from_torchvision(
    published: Any, name: str, title: str, label_keys: dict[str, str], class_keys: dict[str, str]
) -> Source:
    return Source(
        name=name,
        title=title,
        url=published.url,
        archive=published.filename,
        archive_md5=published.tgz_md5,
        folder=published.base_folder,
        train=dict(published.train_list),
        test=dict(published.test_list),
        meta={published.meta["filename"]: published.meta["md5"]},
        label_keys=label_keys,
        class_keys=class_keys,
    )


def load_cifar(
    spec: DataSpec, progress: Progress | None = None, source: Source | None = None
) -> Dataset:
    """Read CIFAR-10 or CIFAR-100 from ``spec.data_dir``, downloading it where it is missing.

    The default folder is the user's cache. UserError names a damaged file, and says how to get the
    data when there is neither data nor network. ``source`` stands in for the official one.
    """
    source = source or official(spec.name)
    if spec.image_size != SIZE:
        raise UserError(
            f"the images of {source.name} are {SIZE}×{SIZE}; image size {spec.image_size} is for"
            " shapes and folder"
        )
    root = named_folder(spec.data_dir) if spec.data_dir else cache_root()
    folder = _find_files(source, root, progress)
    classes = _read_classes(source, folder, spec.labels)
    train, test = (
        _read_split(source, folder, names, spec.labels, len(classes))
        for names in (source.train, source.test)
    )
    title = source.title if spec.labels == "fine" else f"{source.title} ({spec.labels} labels)"
    return make_dataset(source.name, spec.label or title, train, test, classes)


def _find_files(source: Source, root: Path, progress: Progress | None) -> Path:
    """Return the folder that holds all files, unpacked or fetched into ``root`` if need be."""
    for folder in (root / source.folder, root):
        if all((folder / name).is_file() for name in source.files):
            return folder
    archive = root / source.archive
    if not archive.is_file():
        _fetch(source, root, progress)
    elif (found := md5_of_file(archive)) != source.archive_md5:
        raise UserError(_damaged(archive, found, source.archive_md5))
    unpack(archive, root, [f"{source.folder}/{name}" for name in source.files])
    return root / source.folder


def _fetch(source: Source, root: Path, progress: Progress | None) -> None:
    try:
        download(source.url, root / source.archive, source.archive_md5, progress)
    except Unreachable as problem:
        raise UserError(
            f"{source.name} is not in {root} and cannot be downloaded ({problem}); put"
            f" {source.archive} from {source.url} into that folder,"
            " or choose --dataset shapes, which needs no files"
        ) from None


def _damaged(path: Path, found: str, expected: str) -> str:
    return (
        f"{path} is damaged or not the official file: its MD5 is {found}, not {expected};"
        " delete it to have it fetched again"
    )


def _read(path: Path, expected_md5: str) -> dict[str, Any]:
    """Return the dictionary in a file, once its bytes have proved to be the published ones."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if (found := md5(content)) != expected_md5:
        raise UserError(_damaged(path, found, expected_md5))
    try:
        entries = loads_arrays(content)
    except ValueError as problem:
        raise UserError(f"{path} cannot be read: {problem}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path} is not in the layout of CIFAR: it holds no dictionary")
    return entries


def _read_classes(source: Source, folder: Path, labels: str) -> tuple[str, ...]:
    ((name, expected_md5),) = source.meta.items()
    classes = _read(folder / name, expected_md5).get(source.class_keys[labels])
    if not isinstance(classes, list) or not classes:
        raise UserError(f"{folder / name} is not in the layout of CIFAR: it names no classes")
    return tuple(str(name) for name in classes)


def _read_split(
    source: Source, folder: Path, names: dict[str, str], labels: str, num_classes: int
) -> Split:
    key = source.label_keys[labels]
    parts = [
        _check_batch(folder / name, _read(folder / name, expected_md5), key, num_classes)
        for name, expected_md5 in names.items()
    ]
    pixels = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, SIZE, SIZE)
    return Split(torch.from_numpy(pixels), torch.from_numpy(np.concatenate([y for _, y in parts])))


def _check_batch(
    path: Path, entries: dict[str, Any], key: str, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (N, 3072) and labels (N,) of one file; UserError if they are not those."""
    pixels, labels = entries.get("data"), entries.get(key)
    whole = (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and isinstance(labels, list)
        and pixels.shape == (len(labels), PIXELS)
        and all(type(label) is int and 0 <= label < num_classes for label in labels)
    )
    if not whole:
        raise UserError(f"{path} is not in the layout of CIFAR: no images with {key}")
    return np.ascontiguousarray(pixels), np.array(labels, dtype=np.int64)
