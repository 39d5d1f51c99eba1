"""Devices: choosing one, naming it, describing it."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from bench.errors import UserError, unknown

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def check_name(name: str) -> None:
    """Raise UserError for what is no device on any machine."""
    if re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,4})?", name) is None:
        raise unknown("device", name, DEVICES)


def resolve(name: str) -> str:
    """Return the device that ``name`` stands for; UserError when this machine has none such."""
    check_name(name)
    if name == "auto":
        if torch.cuda.is_available():
            return _resolve_cuda("cuda:0", 0)
        return "mps" if _has_mps() else "cpu"
    if name == "cpu":
        return name
    if name == "mps":
        if not _has_mps():
            raise UserError(f"device mps is not there; this machine has: {', '.join(available())}")
        return name
    return _resolve_cuda(name, int(name.partition(":")[2] or 0))


def _resolve_cuda(name: str, index: int) -> str:
    if not torch.cuda.is_available():
        built = torch.backends.cuda.is_built()
        why = "no GPU found" if built else "torch is built without CUDA"
        here = ", ".join(available())
        raise UserError(f"device {name} is not there ({why}); this machine has: {here}")
    if index >= torch.cuda.device_count():
        raise UserError(f"device {name} is not there; this machine has: {', '.join(available())}")
    if problem := _too_old(f"cuda:{index}"):
        raise UserError(problem)
    return f"cuda:{index}"


def _too_old(device: str) -> str | None:
    """Return why torch has no kernels for a GPU that is older than all it was built for, or None.

    Else the first kernel would end with "no kernel image is available for execution".
    """
    names = torch.cuda.get_arch_list() if torch.version.cuda else []  # ["sm_75", "sm_90a", ...]
    built = [int(found[1]) for name in names if (found := re.search(r"_(\d+)[af]?$", name))]
    major, minor = torch.cuda.get_device_capability(device) if built else (0, 0)
    if not built or 10 * major + minor >= min(built):
        return None
    oldest = f"{min(built) // 10}.{min(built) % 10}"
    return (
        f"{torch.cuda.get_device_name(device)} ({device}, compute capability {major}.{minor}) is"
        f" older than what torch {torch.__version__} is built for ({oldest} and later); choose"
        " --device cpu, or install an older torch"
    )


def available() -> tuple[str, ...]:
    """Return the devices that this machine can run on, the best first."""
    cudas = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    return (*cudas, *(("mps",) if _has_mps() else ()), "cpu")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def kind(device: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps``."""
    return device.partition(":")[0]


def gpu_uuid(device: str) -> str | None:
    """Return the UUID by which NVML knows the GPU, None for other devices."""
    if kind(device) != "cuda":
        return None
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", "")) or None


def device_name(device: str) -> str:
    """Return the name that a person would give the device."""
    match kind(device):
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "mps":
            return "Apple GPU (Metal)"
        case _:
            return "CPU"


def driver_version(device: str) -> str | None:
    """Return the version of the device's driver (mps: of the system it ships with), or None."""
    match kind(device):
        case "cuda":
            return _cuda_driver()
        case "mps":
            return f"macOS {platform.mac_ver()[0]}"
        case _:
            return None


def _cuda_driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found.group() if found else None
