"""Freed memory is kept while it is asked for, and given back afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from bench.machine import device_memory as devices
from bench.machine import heap

resource = pytest.importorskip("resource", reason="page faults are not told here")

LARGE = 48 << 20  # bytes: more than glibc ever takes from its heap by itself
glibc_alone = pytest.mark.skipif(
    heap.state() == "unchanged", reason="no glibc, or its behaviour was chosen in the environment"
)

# What happens to memory is asked in fresh processes: after many tests a heap may have a hole that
# fits, and a test that ran out of memory has moved its thread to another arena.
PRELUDE = f"""
import resource, statistics
import psutil
from bench.machine import heap

LARGE = {LARGE}

def fill(times=1):
    return b"x" * (times * LARGE)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def settled_faults():
    return statistics.median([faults() for _ in range(29)][20:])

def resident():
    return psutil.Process().memory_info().rss
"""


def told(script: str) -> list[str]:
    """Return the lines that a script prints in a fresh process."""
    command = [sys.executable, "-c", PRELUDE + script]
    chosen = {
        key: os.environ[key] for key in os.environ if not key.startswith(("MALLOC_", "GLIBC_"))
    }
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=chosen)
    return done.stdout.splitlines()


@glibc_alone
def test_a_large_block_takes_the_place_of_the_last() -> None:
    lines = told("print(settled_faults())\nwith heap.kept(): print(settled_faults())")
    before, kept = map(float, lines)
    pages = LARGE // resource.getpagesize()
    assert kept < pages // 10
    if huge_pages() != "always":  # few faults of many bytes
        assert before > pages // 2, "each has pages of its own"


def huge_pages() -> str:
    """Return the system's choice of pages: ``always`` huge ones make few faults of many."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return ""


@glibc_alone
def test_memory_is_given_back_at_the_end_or_before_when_asked() -> None:
    lines = told(
        """
with heap.kept():
    fill(4)
    held = resident()
    heap.release()
    print(held - resident(), heap.state())
    fill(4)
    held = resident()
print(held - resident(), heap.state())
"""
    )
    (early, state), (late, after) = (line.split(maxsplit=1) for line in lines)
    assert int(early) > 3 * LARGE
    assert int(late) > 3 * LARGE
    assert (state, after) == ("kept", "returned, kept before")


@glibc_alone
def test_the_outermost_end_counts_and_an_error_ends_it_too() -> None:
    lines = told(
        """
with heap.kept():
    try:
        with heap.kept(): 1 / 0
    except ZeroDivisionError:
        print(heap.state())
    block = fill(4)
    held = resident()
    del block
    print(held - resident())
print(heap.state())
"""
    )
    assert (lines[0], lines[2]) == ("kept", "returned, kept before")
    assert int(lines[1]) < LARGE


@glibc_alone
def test_a_thread_that_was_refused_memory_is_found_out() -> None:
    """Beside other threads, glibc serves it from another arena afterwards."""
    script = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    bytearray(1 << 60)
except MemoryError:
    with heap.kept():
        print(heap.state())
        block = fill(4)
        held = resident()
        del block
        print(held - resident())
"""
    state, given_back = told(script)
    assert (state, int(given_back) > 3 * LARGE) == ("kept in part", True)


def test_memory_is_released_for_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(heap, "release", lambda: calls.append("released"))
    devices.release_memory("cpu")
    assert calls == ["released"]


@glibc_alone
def test_a_fresh_process_returns_until_it_is_told_to_keep() -> None:
    script = """
print(heap.state())
with heap.kept(wanted=False): print(heap.state())
with heap.kept(): print(heap.state())
print(heap.state())
"""
    assert told(script) == ["returned", "returned", "kept", "returned, kept before"]


@pytest.mark.parametrize(
    "variable",
    [
        "MALLOC_TRIM_THRESHOLD_=1000000",
        "MALLOC_TOP_PAD_=4096",
        "GLIBC_TUNABLES=glibc.pthread.rseq=1:glibc.malloc.mmap_max=3",
    ],
)
def test_a_choice_in_the_environment_is_left_alone(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("=", 1))
    monkeypatch.setattr(ctypes, "CDLL", unreachable)
    with heap.kept():
        assert heap.state() == "unchanged"


@glibc_alone
def test_a_choice_of_something_else_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    with heap.kept():
        assert heap.state().startswith("kept")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_is_glibc", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", unreachable)
    with heap.kept():
        assert heap.state() == "unchanged"


def unreachable(name: object) -> None:
    raise AssertionError("the C library was touched")
