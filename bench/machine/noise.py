"""What disturbs a measurement: other work, stolen time, throttling, battery, clocks.

`watch` looks at the machine before and after a group is timed; `warnings` says in words what is
worth knowing. A processor that others use is not refused, but nobody is left in the dark.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.machine import nvml
from bench.machine.cores import cgroup_folders
from bench.machine.environment import load_1min
from bench.record.profile import NoiseFacts

BUSY_SHARE = 0.1
STOLEN_SHARE = 0.02
GLANCE_S = 0.3
# What psutil raises where a system has no such sensor, or hides it: it is then not measured.
NO_SENSOR = (AttributeError, NotImplementedError, OSError, RuntimeError)


@dataclass(frozen=True)
class _Counters:
    """Seconds of these cores' time since the system started, and the throttling counters."""

    at: float
    num_cores: int
    busy_s: float
    steal_s: float
    own_s: float
    cgroup_throttled: int
    core_throttled: int


def _counters() -> _Counters:
    cores = _own_cores()
    return _Counters(
        at=time.monotonic(),
        num_cores=len(cores),
        busy_s=sum(map(_busy_s, cores)),
        steal_s=sum(getattr(core, "steal", 0.0) for core in cores),
        own_s=time.process_time(),
        cgroup_throttled=_cgroup_throttled(),
        core_throttled=_core_throttled(),
    )


def _own_cores() -> list[Any]:
    """Return the times of the cores that this process may run on."""
    cores = psutil.cpu_times(percpu=True)
    if not hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return cores
    own = os.sched_getaffinity(0)
    return [core for number, core in enumerate(cores) if number in own] or cores


def _busy_s(core: Any) -> float:
    idle = core.idle + getattr(core, "iowait", 0.0)
    guest = getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0)  # part of user, nice
    return float(sum(core) - idle - guest - getattr(core, "steal", 0.0))


def _cgroup_throttled() -> int:
    """Return how often a control group that this process is in had used up its quota."""
    return sum(_times_throttled(folder / "cpu.stat") for folder in cgroup_folders())


def _times_throttled(path: Path) -> int:
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
        return int(lines.get("nr_throttled", 0))
    except (OSError, ValueError):
        return 0


def _core_throttled(folder: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return how often a core was slowed down because it was hot."""
    try:
        paths = folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        return sum(int(path.read_text()) for path in paths)
    except (OSError, ValueError):
        return 0


def watch(gpu_uuid: str | None = None) -> Callable[[], NoiseFacts]:
    """Begin to watch; the returned function ends it and tells what was seen meanwhile."""
    before = _counters()
    throttled_before = nvml.throttle_reasons(gpu_uuid) if gpu_uuid else ()

    def end() -> NoiseFacts:
        return _noise(before, _counters(), gpu_uuid, throttled_before)

    return end


def glance(gpu_uuid: str | None = None) -> NoiseFacts:
    """Return what the machine does now, from a look of a third of a second."""
    end = watch(gpu_uuid)
    time.sleep(GLANCE_S)
    return end()


def _noise(
    before: _Counters, after: _Counters, gpu_uuid: str | None, throttled_before: tuple[str, ...]
) -> NoiseFacts:
    capacity_s = max(1e-9, (after.at - before.at) * after.num_cores)
    others_s = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    throttled = [f"GPU: {reason}" for reason in throttled_before]
    if gpu_uuid:
        throttled += [f"GPU: {reason}" for reason in nvml.throttle_reasons(gpu_uuid)]
    if after.cgroup_throttled > before.cgroup_throttled:
        throttled.append("CPU: the control group's quota was used up")
    if after.core_throttled > before.core_throttled:
        throttled.append("CPU: slowed down by heat")
    return NoiseFacts(
        load_1min=load_1min(),
        other_cpu_share=min(1.0, max(0.0, others_s / capacity_s)),
        steal_share=min(1.0, max(0.0, (after.steal_s - before.steal_s) / capacity_s)),
        cpu_mhz=_cpu_mhz(),
        on_battery=_on_battery(),
        throttled=tuple(dict.fromkeys(throttled)),
        gpu_mhz=nvml.clock_mhz(gpu_uuid) if gpu_uuid else None,
        gpu_processes=nvml.other_processes(gpu_uuid) if gpu_uuid else None,
        gpu_temperature_c=nvml.temperature_c(gpu_uuid) if gpu_uuid else None,
    )


def _cpu_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except NO_SENSOR:
        return None
    return float(frequency.current) if frequency and frequency.current > 0 else None


def _on_battery() -> bool | None:
    try:
        battery = psutil.sensors_battery()
    except NO_SENSOR:
        return None
    return None if battery is None else not battery.power_plugged


def warnings(noise: NoiseFacts) -> tuple[str, ...]:
    """Return in words what makes timings taken meanwhile doubtful."""
    found = []
    if (noise.other_cpu_share or 0.0) > BUSY_SHARE:
        share = 5 * round(20 * (noise.other_cpu_share or 0.0))  # so that rows share a footnote
        found.append(f"other work used about {share} % of the cores")
    if (noise.steal_share or 0.0) > STOLEN_SHARE:
        found.append(
            f"the hypervisor took {100 * (noise.steal_share or 0.0):.0f} % of the cores' time"
        )
    if noise.on_battery:
        found.append("the machine runs on battery")
    if noise.gpu_processes:
        found.append(f"{noise.gpu_processes} other processes compute on the GPU")
    return (*found, *noise.throttled)
