"""Where data that was fetched or decoded is kept for the next time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from bench.errors import UserError

NAME = "senet-bench"


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
