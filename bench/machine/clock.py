"""Waiting for a device, and its own clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.machine.devices import kind


def synchronizer(device: str) -> Callable[[], None]:
    """Return a function that waits until all work given to the device is done."""
    match kind(device):
        case "cuda":
            return lambda: torch.cuda.synchronize(device)
        case "mps":
            return torch.mps.synchronize
        case _:
            return lambda: None


def has_passed(mark: Any) -> bool:
    """Tell whether the device has come to a mark in its queue, without waiting for it."""
    return bool(mark.query())


def event_clock(
    device: str,
) -> tuple[Callable[[], object], Callable[[Any, Any], float]] | None:
    """Return how to mark the device's queue and to read the seconds between two marks.

    None where there are no events (the CPU) or where they can hang or read reversed (mps).
    """
    return _cuda_marks(device) if kind(device) == "cuda" else None


def _cuda_marks(device: str) -> tuple[Callable[[], object], Callable[[Any, Any], float]]:
    def mark() -> object:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def between(first: Any, last: Any) -> float:
        return float(first.elapsed_time(last)) / 1e3

    return mark, between


def occupier(device: str) -> Callable[[float], None] | None:
    """Return what keeps the device busy for about so many seconds without waiting for it.

    Work given to it meanwhile queues up, so that the device does it without waiting for the host.
    None where there are no events to time such work by.
    """
    if kind(device) != "cuda":
        return None
    square = torch.ones(4096, 4096, device=device)
    mark, between = _cuda_marks(device)
    torch.mm(square, square)
    first = mark()
    torch.mm(square, square)
    last = mark()
    torch.cuda.synchronize(device)
    once_s = max(1e-5, between(first, last))

    def occupy(seconds: float) -> None:
        for _ in range(1 + int(seconds / once_s)):
            torch.mm(square, square)

    return occupy
