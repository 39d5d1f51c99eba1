"""Joules by a counter of the hardware, over a window of seconds; never an estimate.

NVIDIA GPUs have one since Volta; Intel and AMD processors have RAPL, where the system lets one
read it. Elsewhere there is no number, and the reason stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import nvml
from bench.measure.clock import Clock, Work, time_block
from bench.record.profile import EnergyFacts

WINDOW_S = 3.0
RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """A counter of joules, and what it counts; ``wrap_j`` is where it starts again from 0."""

    read: Callable[[], float]
    source: str
    wrap_j: float | None = None


def gpu_meter(uuid: str) -> Meter | str:
    """Return the GPU's meter, or why there is none."""
    if nvml.library() is None:
        return "NVML is not installed: pip install nvidia-ml-py"
    if nvml.energy_j(uuid) is None:
        return "the GPU has no energy counter that NVML may read"
    return Meter(lambda: nvml.energy_j(uuid) or 0.0, "NVML total energy of the GPU")


def cpu_meter(folder: Path = RAPL) -> Meter | str:
    """Return the processor packages' meter, or why there is none."""
    packages = sorted(folder.glob("intel-rapl:[0-9]")) + sorted(folder.glob("amd-rapl:[0-9]"))
    if not packages:
        return "the system offers no energy counter of the processor (RAPL)"
    counters = [package / "energy_uj" for package in packages]
    try:
        for counter in counters:
            counter.read_text()
        ranges = [int((p / "max_energy_range_uj").read_text()) for p in packages]
    except OSError as error:
        return f"the processor's energy counter (RAPL) cannot be read: {error.strerror}"
    wrap_j = ranges[0] / 1e6 if len(ranges) == 1 else None
    return Meter(
        lambda: sum(int(counter.read_text()) for counter in counters) / 1e6,
        f"RAPL, {len(packages)} processor package{'s' if len(packages) > 1 else ''}",
        wrap_j,
    )


def measure(
    work: Work,
    images_a_call: int,
    meter: Meter | str,
    clock: Clock,
    *,
    iters: int = 1,
    window_s: float = WINDOW_S,
) -> EnergyFacts:
    """Work for ``window_s`` seconds, ``iters`` calls at a time, between two readings."""
    if isinstance(meter, str):
        return EnergyFacts(reason=meter)
    calls = 0
    begin, joules = clock.read(), meter.read()
    while (now := clock.read()) - begin < window_s:
        calls += time_block(work, iters, clock).iters
    used = meter.read() - joules
    if used < 0 and meter.wrap_j is not None:
        used += meter.wrap_j
    if used <= 0:
        return EnergyFacts(reason=f"{meter.source} did not advance in {window_s:g} s")
    return EnergyFacts(
        joules=used, window_s=now - begin, num_images=calls * images_a_call, source=meter.source
    )
