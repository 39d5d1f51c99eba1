"""What NVIDIA's management library says of a GPU: energy, clocks, throttling, other processes.

Everything is None where the library or a counter is missing; nothing here changes the GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
THROTTLE_REASONS = {
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "thermal slowdown (software)",
    "HwThermalSlowdown": "thermal slowdown (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
}


@functools.cache
def library() -> ModuleType | None:
    """Return pynvml, started, or None where it or the driver is missing."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # ImportError, or any of pynvml's own errors
        return None
    return nvml


@functools.cache
def handle(uuid: str) -> Any | None:
    """Return the handle of the GPU with this UUID, None where it is not to be had."""
    nvml = library()
    if nvml is None:
        return None
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    with contextlib.suppress(nvml.NVMLError):
        return nvml.nvmlDeviceGetHandleByUUID(name)
    return None


def ask(uuid: str, question: Callable[[ModuleType, Any], T]) -> T | None:
    """Return what the GPU answers, None where it does not."""
    nvml, gpu = library(), handle(uuid)
    if nvml is None or gpu is None:
        return None
    with contextlib.suppress(nvml.NVMLError):
        return question(nvml, gpu)
    return None


def energy_j(uuid: str) -> float | None:
    """Return the joules that the GPU has used since its driver was loaded (Volta and later)."""
    millijoules = ask(uuid, lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu))
    return None if millijoules is None else millijoules / 1e3


def clock_mhz(uuid: str) -> int | None:
    """Return the clock of the multiprocessors now."""
    return ask(uuid, lambda nvml, gpu: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)))


def temperature_c(uuid: str) -> int | None:
    """Return the GPU's temperature."""
    return ask(
        uuid,
        lambda nvml, gpu: int(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
    )


def other_processes(uuid: str) -> int | None:
    """Return how many other processes compute on the GPU."""

    def count(nvml: ModuleType, gpu: Any) -> int:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        return sum(process.pid != os.getpid() for process in running)

    return ask(uuid, count)


def throttle_reasons(uuid: str) -> tuple[str, ...]:
    """Return why the GPU runs slower than it could now, in words."""

    def reasons(nvml: ModuleType, gpu: Any) -> tuple[str, ...]:
        active = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
        bits = {words: getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)
                for name, words in THROTTLE_REASONS.items()}  # fmt: skip
        return tuple(words for words, bit in bits.items() if active & bit)

    return ask(uuid, reasons) or ()
