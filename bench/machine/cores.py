"""The CPU cores that this process may use: affinity and the quotas of its control groups.

Imported with the package, before torch: where OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY is
set, torch's OpenMP binds the main thread to one core as it starts, and from then on the system
tells that one core as all there is.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from bench.machine.cgroups import CGROUPS, OWN_GROUPS, cgroup_folders, folders_v1


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


AT_START = _affinity()
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and cgroup quota, at least one."""
    is_bound = any(os.environ.get(name) for name in BINDING)
    cores = AT_START if is_bound else _affinity()
    return max(1, math.floor(min(cores, cgroup_quota())))


def threads_for(num_processes: int = 1) -> int:
    """Return how many threads each of so many processes should compute with, at least one.

    OMP_NUM_THREADS is respected where it is a number; else each has its share of the cores. The
    1 that torchrun sets for several processes, unasked, is no wish.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    is_torchruns = num_processes > 1 and wanted == "1"
    if re.fullmatch(r"0*[1-9][0-9]{0,3}", wanted, re.ASCII) and not is_torchruns:
        return int(wanted)
    return max(1, usable_cores() // num_processes)


def cgroup_quota(root: Path = CGROUPS, own: Path = OWN_GROUPS) -> float:
    """Return the CPUs that the control groups allow, of this process and around it, or infinity.

    In version 2 a group's quota is in ``cpu.max``; version 1 has a tree of its own for the CPU.
    """
    quotas = [_quota(folder / "cpu.max") for folder in cgroup_folders(root, own)]
    quotas += [_quota_v1(folder) for folder in folders_v1("cpu", root, own)]
    return min((quota for quota in quotas if quota is not None), default=math.inf)


def _quota(path: Path) -> float | None:
    """Return the CPUs in a ``cpu.max``, infinity for no limit, None where there is none."""
    try:
        quota, period = path.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return None
