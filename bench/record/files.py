"""Files and folders: written whole or not at all, checked, hashed, cleaned up."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.errors import UserError
from bench.signals import held_back

LONGEST_PREFIX = 200  # a file's name may have 255 bytes, and a temporary one's has more around it


def check_writable(folder: Path) -> None:
    """Raise UserError unless files can be made in ``folder``; leaves nothing behind."""
    missing = missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    finally:
        remove_empty(missing)


def missing_folders(folder: Path) -> list[Path]:
    """Return a folder and its parents as far as they are not there, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, up to the first that cannot be or is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def size_of_file(path: Path) -> int:
    """Return a file's bytes; ValueError for anything else: a pipe would be waited for for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no regular file")
    if found.st_size == 0:  # some files of the system say so, and are waited for for ever
        raise ValueError("empty")
    return found.st_size


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remove_orphans(folder: Path) -> None:
    """Delete the temporary files of writers that were killed; nobody may be writing there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_whole(path: Path, *parts: bytes | memoryview, exclusive: bool = False) -> None:
    """Write a file so that a reader sees all of it or none: temporary file, fsync, rename.

    Raises UserError when the folder cannot be written to or the disk is full, and, if
    ``exclusive``, when there is a file of that name by then.
    """
    _write_all({path: parts}, exclusive)


@held_back()
def write_set(folder: Path, files: Mapping[str, bytes], without: Iterable[str] = ()) -> None:
    """Write several files into a folder: where one cannot be written, all stay as they were.

    Files of the former set, ``without`` which it is to be, are removed. Raises UserError as
    `write_whole` does.
    """
    _write_all({folder / name: (content,) for name, content in files.items()}, exclusive=False)
    for name in without:
        (folder / name).unlink(missing_ok=True)


@held_back()  # else temporary files stay, or half of a set
def _write_all(files: Mapping[Path, Sequence[bytes | memoryview]], exclusive: bool) -> None:
    """Write all to temporary files, which is what can fail for want of room, then rename them."""
    written: list[str] = []
    path = Path()
    try:
        for path, parts in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():  # found before anything is put in its place
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, name = tempfile.mkstemp(
                prefix=f".{path.name[:LONGEST_PREFIX]}.", suffix=".tmp", dir=path.parent
            )
            written.append(name)
            _fill(handle, name, parts)
        for path, name in zip(files, written, strict=True):
            _put_in_place(name, path, exclusive)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    finally:
        for name in written:
            Path(name).unlink(missing_ok=True)


def _fill(handle: int, name: str, parts: Sequence[bytes | memoryview]) -> None:
    """Write an open file durably, and let others read it as they may read any new file."""
    with os.fdopen(handle, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that nobody else may read


def _put_in_place(name: str, path: Path, exclusive: bool) -> None:
    """Give a finished temporary file its name, durably."""
    if exclusive:
        try:
            _link(name, path)
        except FileExistsError:
            raise UserError(f"{path} is there already; records are never overwritten") from None
    else:
        os.replace(name, path)
    with contextlib.suppress(OSError):  # not every system opens folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link(name: str, path: Path) -> None:
    """Rename without replacing; FileExistsError when the name is taken."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: two writers at once are not told apart
        if path.exists():
            raise FileExistsError from None
        os.replace(name, path)
