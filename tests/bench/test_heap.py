"""Freed memory is kept while it is asked for, and given back afterwards."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import psutil
import pytest
import torch

from bench import device as devices
from bench import heap

resource = pytest.importorskip("resource", reason="page faults are not told here")

LARGE = 48 << 20  # bytes: more than glibc ever takes from its heap by itself
glibc_alone = pytest.mark.skipif(
    heap.state() == "unchanged", reason="no glibc, or its behaviour was chosen in the environment"
)


# A fresh process, whose heap has no hole yet that the tensor fits into: there the ends of a run of
# tests would decide where it lies.
FILL_BEFORE_AND_WHILE_KEPT = f"""
import resource, statistics, torch
from bench import heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({LARGE} // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def settled_faults():
    return statistics.median([faults() for _ in range(29)][20:])

print(settled_faults())
with heap.kept():
    print(settled_faults())
"""


@glibc_alone
def test_a_large_tensor_takes_the_place_of_the_last() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL_BEFORE_AND_WHILE_KEPT],
        capture_output=True,
        check=True,
        text=True,
    )
    before, kept = map(float, done.stdout.split())
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
def test_memory_is_given_back_at_the_end() -> None:
    with heap.kept():
        torch.ones(2 * LARGE)
        held = resident_bytes()
    assert resident_bytes() < held - LARGE


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


@glibc_alone
def test_what_is_kept_can_be_given_back_between_two_works() -> None:
    with heap.kept():
        torch.ones(2 * LARGE)
        held = resident_bytes()
        devices.release_memory("cpu")
        assert resident_bytes() < held - LARGE
        assert heap.state() == "kept"


@glibc_alone
def test_the_outermost_end_counts_and_an_error_ends_it_too() -> None:
    with heap.kept():
        with pytest.raises(ZeroDivisionError), heap.kept():
            _ = 1 / 0
        assert devices.flags("cpu")["freed_memory"] == "kept"
        tensor = torch.ones(2 * LARGE)
        held = resident_bytes()
        del tensor
        assert resident_bytes() > held - LARGE
    assert devices.flags("cpu")["freed_memory"] == "returned, kept before"


@glibc_alone
def test_a_fresh_process_returns_until_it_is_told_to_keep() -> None:
    script = (
        "from bench import heap\n"
        "print(heap.state())\n"
        "with heap.kept(wanted=False): print(heap.state())\n"
        "with heap.kept(): print(heap.state())\n"
        "print(heap.state())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    told = ["returned", "returned", "kept", "returned, kept before"]
    assert done.stdout.splitlines() == told


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
        assert heap.state() == "kept"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_is_glibc", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", unreachable)
    with heap.kept():
        assert heap.state() == "unchanged"


def unreachable(name: object) -> None:
    raise AssertionError("the C library was touched")
