"""What disturbs a measurement: other work, stolen time, throttling, battery, clocks.

`watch` looks at the machine before and after a group is timed, and at a GPU between its blocks,
since it clocks up and down within milliseconds; `warnings` says in words what is
worth knowing. A processor that others use is not refused, but nobody is left in the dark.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.machine import nvml
from bench.machine.cgroups import cgroup_folders
from bench.machine.environment import load_1min
from bench.record.profile import NoiseFacts

BUSY_SHARE = 0.1
STOLEN_SHARE = 0.02
GLANCE_S = 0.3
SAMPLE_EVERY_S = 0.5
FEWEST_STEPS = 20
SLOW_STEP, SLOW_SHARE = 2.0, 0.05  # over the median; of all steps, below which it is chance
CONTENDED = "other work slowed the training down"
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


class GpuSamples:
    """What a GPU said of itself between blocks, still warm of them: before and after it idles.

    It is asked every half second at most, which takes it microseconds.
    """

    def __init__(self, uuid: str, now: Callable[[], float] = time.monotonic) -> None:
        self.uuid, self.now, self.last = uuid, now, -math.inf
        self.reasons: dict[str, None] = {}  # in the order they came
        self.clocks: list[int] = []

    def take(self) -> None:
        """Ask the GPU, unless it was asked just before."""
        if self.now() - self.last < SAMPLE_EVERY_S:
            return
        self.last = self.now()
        self.reasons.update(dict.fromkeys(nvml.throttle_reasons(self.uuid)))
        clock = nvml.clock_mhz(self.uuid)
        self.clocks += [] if clock is None else [clock]


@dataclass(frozen=True)
class Watch:
    """A look at the machine that goes on: `sample` between blocks, then `end`."""

    before: _Counters
    gpu: GpuSamples | None

    def sample(self) -> None:
        """Look at what cannot be told afterwards: why a GPU is slow now, and its clock."""
        if self.gpu:
            self.gpu.take()

    def end(self) -> NoiseFacts:
        """Return what was seen since the beginning."""
        return _noise(self.before, _counters(), self.gpu)


def watch(gpu_uuid: str | None = None) -> Watch:
    """Begin to watch."""
    return Watch(_counters(), GpuSamples(gpu_uuid) if gpu_uuid else None)


def glance(gpu_uuid: str | None = None) -> NoiseFacts:
    """Return what the machine does now, from a look of a third of a second."""
    glanced = watch(gpu_uuid)
    glanced.sample()
    time.sleep(GLANCE_S)
    return glanced.end()


def _noise(before: _Counters, after: _Counters, gpu: GpuSamples | None) -> NoiseFacts:
    capacity_s = max(1e-9, (after.at - before.at) * after.num_cores)
    others_s = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    throttled = [f"GPU: {reason}" for reason in gpu.reasons] if gpu else []
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
        gpu_mhz=round(statistics.median(gpu.clocks)) if gpu and gpu.clocks else None,
        gpu_processes=nvml.other_processes(gpu.uuid) if gpu else None,
        gpu_temperature_c=nvml.temperature_c(gpu.uuid) if gpu else None,
    )


class StepTimes:
    """The seconds between the steps of a training, which tell of other work on its cores."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.last = now, math.nan
        self.seconds: list[float] = []

    def step(self) -> None:
        """Note that a step ended."""
        now = self.now()
        if not math.isnan(self.last):
            self.seconds.append(now - self.last)
        self.last = now

    def pause(self) -> None:
        """Let what comes before the next step, such as saving, be no part of its time."""
        self.last = math.nan

    def warning(self) -> str | None:
        """Return in words that many steps took far longer than most, or None."""
        if len(self.seconds) < FEWEST_STEPS:
            return None
        usual = statistics.median(self.seconds)
        slow = [seconds for seconds in self.seconds if seconds > SLOW_STEP * usual]
        if len(slow) < SLOW_SHARE * len(self.seconds):
            return None
        lost = (sum(slow) - usual * len(slow)) / sum(self.seconds)
        return (
            f"{CONTENDED}: {len(slow)} of {len(self.seconds)} steps took more than twice as long"
            f" as most, which cost about {100 * lost:.0f} % of the time"
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
