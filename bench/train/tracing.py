"""Record where the time of a few training steps goes, as a Chrome trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from bench.compute.training_step import Mark, no_mark
from bench.errors import UserError
from bench.machine import devices, numerics

TRACED_STEPS = 6


@dataclass(frozen=True)
class Trace:
    """How to mark the parts of a step, and what to call after each step."""

    mark: Mark
    on_step: Callable[[], None]


NO_TRACE = Trace(no_mark, lambda: None)


@contextlib.contextmanager
def tracing(path: Path | None, device: str, num_steps: int) -> Iterator[Trace]:
    """Trace some of the ``num_steps`` steps that are taken inside the block into a file.

    The first two are left out, unless there are no others. Open the file in chrome://tracing or
    https://ui.perfetto.dev; on CUDA the parts are NVTX ranges too. Without a path nothing is done.
    """
    if path is None:
        yield NO_TRACE
        return
    skipped = int(num_steps > 2)
    activities = [ProfilerActivity.CPU]
    if devices.kind(device) == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(
        activities=activities,
        schedule=schedule(wait=skipped, warmup=skipped, active=TRACED_STEPS, repeat=1),
        on_trace_ready=lambda done: _write(done, path),
    ) as profiler:
        yield Trace(numerics.named_range(device), profiler.step)


def _write(profiler: torch.profiler.profile, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
        raise UserError(f"cannot write the trace {path}: {error}") from None
