"""Where results go: whether a folder can be written to, what a finished file's hash is."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.errors import UserError


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
