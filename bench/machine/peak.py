"""Watch how much memory a process needs at most, by the best counter that a device has."""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Callable, Iterator

import psutil
import torch

from bench.machine import devices
from bench.record.profile import ALLOCATOR_PEAK


@contextlib.contextmanager
def watch_memory(device: str) -> Iterator[Callable[[], tuple[int, int, str]]]:
    """Watch this process' memory inside the block; afterwards the function given tells the peak.

    It returns the bytes above what was in use at the start, the bytes in all, and by what they
    were read: CUDA's and the system's own peaks, which for the system is that of the process'
    whole life; mps keeps none, so there its counters are polled.
    """
    peak: list[tuple[int, int, str]] = []
    match devices.kind(device):
        case "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            yield lambda: peak[0]
            allocated = torch.cuda.max_memory_allocated(device) - before
            reserved = torch.cuda.max_memory_reserved(device)
            peak.append((allocated, reserved, ALLOCATOR_PEAK))
        case "mps":
            before = torch.mps.current_allocated_memory()
            with _polled(_mps_memory) as most:
                yield lambda: peak[0]
            peak.append((most[0] - before, most[1], "mps allocator, polled"))
        case _:
            before = psutil.Process().memory_info().rss
            yield lambda: peak[0]
            most_rss = _peak_rss()
            peak.append((max(0, most_rss - before), most_rss, "peak resident set"))


def _mps_memory() -> tuple[int, int]:
    return torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()


@contextlib.contextmanager
def _polled(read: Callable[[], tuple[int, int]]) -> Iterator[list[int]]:
    """Read two numbers every millisecond in a thread; the list holds the largest of each."""
    most, done = list(read()), threading.Event()

    def poll() -> None:
        while not done.wait(1e-3):
            most[:] = map(max, most, read())

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
        most[:] = map(max, most, read())


def _peak_rss() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]  # Windows'
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak
