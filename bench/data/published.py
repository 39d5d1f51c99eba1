"""Data sets that libraries know: ``torchvision:NAME`` and ``hf:ORG/NAME[:SPLIT]``.

The libraries find, download and read them; what they read is decoded and kept as a folder's images
are. Greyscale becomes RGB, and images of any size become those that were asked for.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.cache import Encoded, cache_root, decoded, named_folder
from bench.data.dataset import Dataset
from bench.data.download import TIMEOUT_S, Progress
from bench.data.images import Encoded as EncodedImage
from bench.data.stored import Items
from bench.errors import UserError, did_you_mean, said
from bench.spec.run import DataSpec

TRAIN = "train", "trainval"
TEST = "test", "val", "valid", "validation"  # the first that there is


@dataclass(frozen=True)
class Numbered:
    """The images of a split by their number; ``content`` changes with what they depend on."""

    split: str
    images: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[EncodedImage, int]:
        image, label = self.images[index]
        return image, label

    def name(self, index: int) -> str:
        return f"image {index} of {self.split}"


def load_torchvision(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Read a classification data set of torchvision, downloaded where it is missing.

    It lies in ``spec.data_dir`` or the user's cache. UserError for an unknown name (the nearest
    are told), one without class labels, and when there is neither data nor network.
    """
    from torchvision import datasets

    name = spec.name.partition(":")[2]
    kinds = {k: v for k, v in vars(datasets).items() if _is_of_classes(v)}
    if name not in kinds:
        every = f"; there are {', '.join(kinds)}"
        raise UserError(f"unknown dataset {spec.name!r}{did_you_mean(name, kinds, every)}")
    root = named_folder(spec.data_dir) if spec.data_dir else cache_root() / "torchvision"
    splits = [_opened(kinds[name], spec.name, root, wanted) for wanted in (TRAIN, TEST)]
    classes = getattr(splits[0], "classes", None)
    if not isinstance(classes, Sequence):
        classes = _numbers(splits)
    return _loaded(spec, classes, [repr(split) for split in splits], root, splits, progress)


def _is_of_classes(kind: Any) -> bool:
    from torchvision.datasets import VisionDataset

    if not (isinstance(kind, type) and issubclass(kind, VisionDataset)):
        return False
    return bool({"split", "train"} & inspect.signature(kind).parameters.keys())


def _opened(kind: Any, name: str, root: Path, wanted: Sequence[str]) -> Any:
    """Return the first split of these that a data set has, downloaded where it is missing."""
    parameters = inspect.signature(kind).parameters
    options: list[dict[str, Any]] = [{"split": split} for split in wanted]
    if "train" in parameters:
        options = [{"train": wanted is TRAIN}]
    problem: Exception | None = None
    for option in options:
        for download in (False, True) if "download" in parameters else (None,):
            told = {} if download is None else {"download": download}
            try:
                with _patience():
                    return kind(str(root), **option, **told)
            except ValueError as error:  # no such split
                problem = problem or error
                break
            except Exception as error:  # what libraries raise where files are missing or damaged
                problem = error
        else:
            break
    raise UserError(f"{name} is not in {root} and cannot be downloaded ({said(problem)})") from None


@contextmanager
def _patience() -> Iterator[None]:
    """Let a server that does not answer be given up: libraries would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _numbers(splits: Sequence[Any]) -> list[str]:
    """Return as many classes as there are labels, for sets that do not name them."""
    known = [getattr(s, key, None) for s in splits for key in ("labels", "targets", "_labels")]
    labels = [int(np.max(np.asarray(found))) for found in known if found is not None]
    if not labels:
        labels = [max(int(split[i][1]) for i in range(len(split))) for split in splits]
    return [str(number) for number in range(max(labels) + 1)]


class ByFeatures:
    """A split of a `datasets.Dataset`: the bytes of its image column, and its class labels."""

    def __init__(self, rows: Any, image: str, label: str) -> None:
        from datasets import Image

        self.rows = rows.select_columns([image, label]).cast_column(image, Image(decode=False))
        self.image, self.label = image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[EncodedImage, int]:
        row = self.rows[index]
        found, label = row[self.image], row[self.label]
        return found["bytes"] or found["path"], -1 if label is None else label


def load_hf(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Read a data set of the Hugging Face hub, or a folder that `datasets` can read.

    The split behind the name is the one to test on. UserError where images or labels are missing,
    and when there is neither data nor network.
    """
    _, _, rest = spec.name.partition(":")
    where, split = rest, None
    if not os.path.exists(rest) and ":" in rest:
        where, _, split = rest.rpartition(":")
    splits = _of_hub(spec, where)
    train = next((name for name in TRAIN if name in splits), None)
    test = split if split else next((name for name in TEST if name in splits), None)
    if train is None or test not in splits:
        wanted = "a split to train on" if train is None else (split or "a split to test on")
        raise UserError(f"{spec.name} has no {wanted}; its splits are {', '.join(splits)}")
    image, label = _columns(spec.name, splits[train].features)
    both = [ByFeatures(splits[name], image, label) for name in (train, test)]
    contents = [splits[name]._fingerprint for name in (train, test)]
    classes = splits[train].features[label].names
    if splits[test].features.get(label) != splits[train].features[label]:
        raise UserError(f"{spec.name} has other classes in {test} than in {train}")
    return _loaded(spec, classes, contents, Path(where), both, progress)


def _of_hub(spec: DataSpec, where: str) -> Any:
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    folder = named_folder(where)
    cache = str(named_folder(spec.data_dir)) if spec.data_dir else None
    try:
        with _patience():
            if (folder / "dataset_dict.json").is_file():
                return datasets.load_from_disk(str(folder))
            path = str(folder.resolve()) if folder.is_dir() else where
            return datasets.load_dataset(path, cache_dir=cache)
    except Exception as error:  # what the library and the network raise
        if folder.exists():
            raise UserError(f"{spec.name} cannot be read: {said(error)}") from None
        raise UserError(
            f"{spec.name} is not on this machine and cannot be downloaded: {said(error)}"
        ) from None


def _columns(name: str, features: Any) -> tuple[str, str]:
    """Return the names of the columns with images and with class labels."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    found = []
    for kind, usual, what in (("Image", "image", "images"), ("ClassLabel", "label", "labels")):
        columns = [column for column in kinds if kinds[column] == kind]
        if not columns:
            told = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
            raise UserError(f"{name} has no {what}: no column is of the kind {kind}; it has {told}")
        found.append(next((column for column in columns if usual in column), columns[0]))
    return found[0], found[1]


def _loaded(
    spec: DataSpec,
    classes: Sequence[Any],
    contents: Sequence[str],
    place: Path,
    splits: Sequence[Any],
    progress: Progress | None,
) -> Dataset:
    names = tuple(str(name[0] if isinstance(name, tuple) else name) for name in classes)
    if len(names) < 2:
        raise UserError(f"{spec.name} has {len(names)} classes; two are needed at least")
    train: Items = Numbered("the training split", splits[0])
    test: Items = Numbered("the test split", splits[1])
    content = hashlib.sha256("\0".join(contents).encode()).hexdigest()
    place = place.expanduser().absolute()
    found = Encoded(
        spec.name, spec.label or spec.name, names, f"{spec.name} {place}", content, train, test
    )
    return decoded(found, spec, progress)
