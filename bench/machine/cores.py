"""The CPU cores that this process may use: affinity and the quotas of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and cgroup quota, at least one."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.floor(min(cores, _cgroup_quota())))


def _cgroup_quota() -> float:
    """Return the CPUs that the control groups allow, version 2 then 1, or infinity."""
    found = (_quota(folder / "cpu.max") for folder in cgroup_folders())
    if quotas := [quota for quota in found if quota is not None]:
        return min(quotas)
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def _quota(path: Path) -> float | None:
    """Return the CPUs in a ``cpu.max``, infinity for no limit, None where there is none."""
    try:
        quota, period = path.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def cgroup_folders(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """Return the folders of this process' control group and those around it, version 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    name = next((line[3:] for line in lines if line.startswith("0::")), "/")
    inner = root / name.lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
