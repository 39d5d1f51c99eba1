"""Any tree of ``train/<class>/*`` and ``test/<class>/*`` image files as a data set.

What was decoded is used again for as long as no file's name, size, place on the disk (inode) or
time of change is another. The time that tools may set (tar, rsync -t, cp -p) is not enough: the
system's own (ctime) counts too.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from bench.data.cache import Encoded, decoded, named_folder
from bench.data.dataset import Dataset
from bench.data.download import Progress
from bench.data.images import SUFFIXES
from bench.errors import UserError
from bench.spec.run import DataSpec

TEST_FOLDERS = "test", "val"


@dataclass(frozen=True)
class Listing:
    """The files of one split and the label of each, (N,)."""

    paths: tuple[str, ...]  # strings: among 60,000 files Path objects cost seconds
    labels: np.ndarray
    passed_over: Counter[str]  # how many files of which ending were no images

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.paths[index], int(self.labels[index])

    def name(self, index: int) -> str:
        return self.paths[index]


def load_folder(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Read the images below ``spec.data_dir`` at ``spec.image_size``.

    ``val`` stands in for a missing ``test``. Classes are the folders' names in Unicode's composed
    form (NFC), sorted; hidden files are passed over, those without an image's suffix are counted
    in the data set's notes, folders inside of a class are searched. Links are followed, to each
    folder once. Without ``train`` there is nothing to train on, but all to test on. UserError says
    what is missing, and names an image that cannot be read.
    """
    root = _check_root(spec.data_dir)
    train_root, test_root = _split_folder(root, "train"), _split_folder(root, *TEST_FOLDERS)
    if test_root is None:
        raise _without_split(root, *(TEST_FOLDERS if train_root else ("train",)))
    test_folders = _classes(test_root)
    train_folders = _classes(train_root) if train_root else test_folders
    _check_same(train_folders, test_folders, test_root)
    _check_several(train_root or test_root, train_folders)
    classes = tuple(train_folders)
    train = _list_images(train_root, train_folders)
    test = _list_images(test_root, test_folders)
    label = spec.label or f"{root.name} (folder)"
    content = _content(spec.skip_bad, train, test)
    found = Encoded("folder", label, classes, str(root), content, train, test)
    dataset = decoded(found, spec, progress)
    passed_over = train.passed_over + test.passed_over
    if not passed_over:
        return dataset
    note = (
        f"{passed_over.total()} files were passed over, which are no images that can be read"
        f" ({_shown(passed_over)})"
    )
    return replace(dataset, notes=(note, *dataset.notes))


def _check_root(data_dir: str | None) -> Path:
    if data_dir is None:
        raise UserError(
            "dataset folder needs --data-dir, a folder with train/<class> and test/<class>"
        )
    root = named_folder(data_dir)
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist")
    return root.resolve()


def _split_folder(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _without_split(root: Path, *names: str) -> UserError:
    wanted = " or ".join(f"{name}/" for name in names)
    nested = sorted(str(path.parent) for name in names for path in root.glob(f"*/{name}"))
    advice = f"; did you mean --data-dir {shlex.quote(nested[0])}?" if nested else ""
    return UserError(
        f"the data folder {root} has no {wanted}; it needs train/<class> and test/<class>{advice}"
    )


def _classes(folder: Path) -> dict[str, str]:
    """Return the name of each class, composed (NFC) and sorted, and that of its folder.

    macOS writes an accent as a letter of its own, others do not: the name is the same.
    """
    names = _folders_in(folder)
    if not names:
        raise UserError(f"{folder} holds no class folders")
    classes: dict[str, str] = {}
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8
            raise UserError(f"{folder} holds a folder whose name is not UTF-8: {name!r}")
        composed = unicodedata.normalize("NFC", name)
        if composed in classes:
            raise UserError(f"{folder} holds two folders that are both named {composed!r}")
        classes[composed] = name
    return dict(sorted(classes.items()))


def _folders_in(folder: Path) -> list[str]:
    try:
        return sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None


def _check_same(train: Iterable[str], test: Iterable[str], test_root: Path) -> None:
    if missing := sorted(set(train) - set(test)):
        raise UserError(f"{test_root} has no class {missing[0]!r}, which the training split has")
    if extra := sorted(set(test) - set(train)):
        raise UserError(f"{test_root} has a class {extra[0]!r} that the training split has not")


def _check_several(folder: Path, classes: dict[str, str]) -> None:
    """Refuse a single class, of which every model gets 100 % right."""
    if len(classes) > 1:
        return
    ((name, own),) = classes.items()
    nested = _folders_in(folder / own)
    shown = ", ".join(nested[:5]) + (f" and {len(nested) - 5} more" if len(nested) > 5 else "")
    advice = (
        f"; it holds the folders {shown}: classes must lie directly in {folder.name}/"
        if nested
        else ""
    )
    raise UserError(f"{folder} holds one class, {name!r}; two are needed at least{advice}")


def _list_images(folder: Path | None, classes: dict[str, str]) -> Listing:
    if folder is None:
        return Listing((), np.zeros(0, np.int64), Counter())
    paths: list[str] = []
    counts = []
    passed_over = Counter(
        _ending(entry.name)
        for entry in os.scandir(folder)
        if entry.name[0] != "." and entry.is_file()
    )
    for name in classes.values():
        found = sorted(_images_below(folder / name, passed_over))
        if not found:
            more = f"; passed over: {_shown(passed_over)}" if passed_over else ""
            raise UserError(f"{folder / name} holds no images ({', '.join(SUFFIXES)}){more}")
        paths += found
        counts.append(len(found))
    return Listing(tuple(paths), np.repeat(np.arange(len(classes)), counts), passed_over)


def _images_below(folder: Path, passed_over: Counter[str]) -> Iterator[str]:
    seen = {_identity(str(above)) for above in (folder.resolve(), *folder.absolute().parents)}
    for parent, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        folders[:] = [
            name
            for name in sorted(folders)
            if name[0] != "." and _is_new(os.path.join(parent, name), seen)
        ]
        for name in names:
            if name[0] == ".":
                continue
            if name.lower().endswith(SUFFIXES):
                yield os.path.join(parent, name)
            else:
                passed_over[_ending(name)] += 1


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Note a folder and say whether it is met for the first time: links can lead in circles."""
    identity = _identity(folder)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _identity(folder: str) -> tuple[int, int]:
    try:
        found = os.stat(folder)
    except OSError as error:
        _unreadable(error)
    return found.st_dev, found.st_ino


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no ending"


def _shown(passed_over: Counter[str]) -> str:
    kinds = [f"{number} × {ending}" for ending, number in passed_over.most_common(5)]
    return ", ".join(kinds) + (", …" if len(passed_over) > 5 else "")


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}")


def _content(skip_bad: bool, *listings: Listing) -> str:
    """Return a digest of all that the pixels depend on, short of the files' content.

    UserError for what is no file, before any image is decoded, unless ``skip_bad`` passes over it.
    """
    sha = hashlib.sha256()
    for listing in listings:
        for path, label in zip(listing.paths, listing.labels, strict=True):
            try:
                facts = _facts(path)
            except UserError:
                if not skip_bad:
                    raise
                facts = ()
            sha.update(os.fsencode("\0".join(map(str, (path, label, *facts, "")))))
    return sha.hexdigest()


def _facts(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        _unreadable(error)
    if not stat.S_ISREG(found.st_mode):  # to open a pipe or a terminal would wait for ever
        raise UserError(f"{path} cannot be read as an image: it is no regular file")
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
