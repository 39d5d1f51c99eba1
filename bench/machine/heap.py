"""Keep memory that is freed on the CPU for the next tensor, as torch does on a GPU by itself.

glibc gives large blocks, and a large free end of its heap, back to the system. The next tensor then
comes in pages that the kernel has to find and clear when they are first touched. That can take
longer than the computation, and how often it happens depends on where blocks happen to lie, which
differs from process to process. Another C library, or another malloc than glibc's, is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import threading
from collections.abc import Iterator

# malloc.h names what mallopt(3) sets. There is no way back to thresholds that move with what is
# freed, as they do in a fresh process: USUAL is where they end when tensors are large.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 << 20}
USUAL = {
    M_MMAP_MAX: 65_536,
    M_MMAP_THRESHOLD: 32 << 20,
    M_TRIM_THRESHOLD: 64 << 20,
    M_TOP_PAD: 128 << 10,
}
CHOICES = ("mmap_max", "mmap_threshold", "trim_threshold", "top_pad")
ABOVE_ARENA = (64 << 20) + 1  # bytes: more than an arena holds that is not the main one
IS_MMAPPED = 2  # in the word before a block: the block has a mapping of its own
TUNABLES = re.compile(rf"glibc\.malloc\.({'|'.join(CHOICES)})\b")
_lock = threading.Lock()
_depth = 0
_past = "returned"


def state() -> str:
    """Return what becomes of freed memory now: ``kept``, ``returned``, or something else.

    ``unchanged`` where it is the affair of the system or of the user, who may have chosen by
    ``MALLOC_TRIM_THRESHOLD_`` and the like or by ``GLIBC_TUNABLES``; ``returned, kept before`` in a
    process whose heap is no longer a fresh one's; ``kept in part`` in a thread that
    glibc serves from an arena other than the main one, whose largest blocks it gives back: any but
    the main thread, and that too once the system refused it memory.
    """
    if not _may_choose():
        return "unchanged"
    if not _depth:
        return _past
    return "kept" if _keeps_large() else "kept in part"


@contextlib.contextmanager
def kept(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory until the end, and give it back then; nothing where not ``wanted``."""
    global _depth, _past
    if not wanted or not _may_choose():
        yield
        return
    with _lock:
        _set(KEEPING)
        _depth += 1
        _past = "returned, kept before"
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                _set(USUAL)
                _trim()


def release() -> None:
    """Give what is kept, and used by nothing, back to the system at once."""
    if _depth:
        _trim()


def _trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    for option, value in options.items():
        ctypes.CDLL(None).mallopt(option, value)


def _keeps_large() -> bool:
    """Tell whether a large block comes from this thread's heap; nothing of it is touched."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    block = library.malloc(ctypes.c_size_t(ABOVE_ARENA))
    if not block:
        return False
    word = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
    library.free(block)
    return not word & IS_MMAPPED


def _may_choose() -> bool:
    chosen = any(os.environ.get(f"MALLOC_{name.upper()}_") for name in CHOICES)
    return not chosen and not TUNABLES.search(os.environ.get("GLIBC_TUNABLES", "")) and _is_glibc()


@functools.cache
def _is_glibc() -> bool:
    """Tell whether memory comes from glibc's own malloc, and not one that was put before it."""
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        used, own = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
        addresses = [ctypes.cast(library.malloc, ctypes.c_void_p).value for library in (used, own)]
    except (OSError, AttributeError):
        return False
    return addresses[0] == addresses[1]
