"""Memory of the CPU that is freed kept for the next tensor, as torch keeps a GPU's.

glibc gives blocks of 32 MB and more, and whatever is free at the end of the heap, back to the
system at once. The next tensor then comes in pages that the kernel has to find and clear at their
first touch, which takes several times as long as what is computed with them, and how many these
are depends on where in the heap blocks happen to lie. Other C libraries are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Callable, Iterator

# malloc.h names what mallopt(3) sets; the values are those that free() itself arrives at.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 << 20}
USUAL = {
    M_MMAP_MAX: 65_536,
    M_MMAP_THRESHOLD: 32 << 20,
    M_TRIM_THRESHOLD: 64 << 20,
    M_TOP_PAD: 128 << 10,
}
CHOICES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")

_depth = 0


def state() -> str:
    """Return what becomes of freed memory: ``kept`` or ``returned``, or ``unchanged``.

    ``unchanged`` is said where it is the system's or the user's affair: a C library other than
    glibc, or a choice made in the environment (``MALLOC_…``, ``GLIBC_TUNABLES``, ``LD_PRELOAD``).
    """
    if _mallopt() is None:
        return "unchanged"
    return "kept" if _depth else "returned"


@contextlib.contextmanager
def kept(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory until the end, and give it back then; nothing where not ``wanted``."""
    global _depth
    mallopt = _mallopt()
    if not wanted or mallopt is None:
        yield
        return
    _depth += 1
    _set(mallopt, KEEPING)
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set(mallopt, USUAL)
            ctypes.CDLL(None).malloc_trim(0)


def _set(mallopt: Callable[[int, int], int], options: dict[int, int]) -> None:
    for option, value in options.items():
        mallopt(option, value)


def _mallopt() -> Callable[[int, int], int] | None:
    """Return glibc's function, None where there is another library or the user has chosen."""
    chosen = any(os.environ.get(name) for name in CHOICES)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or not _is_glibc():
        return None
    function: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
    return function


@functools.cache
def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
