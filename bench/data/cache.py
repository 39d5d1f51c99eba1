"""Where data that was fetched or decoded is kept for the next time."""

from __future__ import annotations

import tempfile
from pathlib import Path

from platformdirs import user_cache_path

NAME = "senet-bench"


def cache_root() -> Path:
    """Return the user's cache folder, or one for temporary files where there is no home."""
    root = user_cache_path(NAME)
    return root if root.is_absolute() else Path(tempfile.gettempdir()) / NAME
