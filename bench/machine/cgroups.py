"""Linux's control groups: what a container, or a job of Slurm, may use of the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# The files of a group's limits and use, and what may be forgotten of the files it has read.
_V2 = ("memory.max", "memory.high", "memory.current", "inactive_file", "active_file")
_V1 = (
    *("memory.limit_in_bytes", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    *("total_inactive_file", "total_active_file"),
)


def free_memory(root: Path = CGROUPS, own: Path = OWN_GROUPS) -> float:
    """Return the bytes that the control groups still allow, or infinity.

    Pages of files are free: the system drops them when memory is asked for.
    """
    places = [(folder, _V2) for folder in cgroup_folders(root, own)]
    places += [(folder, _V1) for folder in folders_v1("memory", root, own)]
    return min((_free(folder, *names) for folder, names in places), default=math.inf)


def _free(folder: Path, limit_1: str, limit_2: str, use: str, *cached: str) -> float:
    limit = min(_number(folder / limit_1), _number(folder / limit_2))
    used = _number(folder / use)
    if math.isinf(limit) or math.isinf(used):
        return math.inf
    try:
        lines = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        used -= sum(int(line[1]) for line in lines if line[0] in cached)
    except (OSError, ValueError, IndexError):
        pass
    return max(0.0, limit - used)


def _number(path: Path) -> float:
    """Return a file's number; infinity for ``max`` and for what is not there."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return math.inf


def cgroup_folders(root: Path = CGROUPS, own: Path = OWN_GROUPS) -> list[Path]:
    """Return the folders of this process' control group and those around it, version 2."""
    name = next((name for kinds, name in _groups(own) if kinds == ""), "/")
    return _upwards(root, name)


def folders_v1(kind: str, root: Path, own: Path) -> list[Path]:
    """Return the folders of the group that rules the CPU, say, and those around it, version 1."""
    named = [(kinds, name) for kinds, name in _groups(own) if kind in kinds.split(",")]
    # A container may see its own group as the root, under the name that it has outside.
    trees = [*((root / kinds, name) for kinds, name in named), (root / kind, "/")]
    trees += [(root / kind, name) for _, name in named]
    return [folder for tree, name in trees for folder in _upwards(tree, name)]


def _groups(own: Path) -> Iterator[tuple[str, str]]:
    """Yield (controllers, name) of each control group that this process is in."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        kinds, _, name = rest.partition(":")
        if number.isdigit() and name:
            yield kinds, name


def _upwards(root: Path, name: str) -> list[Path]:
    inner = root / name.lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
