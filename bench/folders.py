"""Where results go: whether a folder can be written to, what a finished file's hash is."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path

from bench.errors import UserError


def check_writable(folder: Path) -> None:
    """Raise UserError unless files can be made in ``folder``; leaves nothing behind."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()


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
