"""Read the JSON that pytest-benchmark writes (``--benchmark-json``, ``--benchmark-save-data``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.stats.times import Interval, median_interval


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its full name, its median time in seconds, and where it ran."""

    name: str
    seconds: Interval
    conditions: dict[str, object]


def is_benchmark_file(path: Path) -> bool:
    """Return whether a file holds benchmarks of pytest-benchmark."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("benchmarks"), list)


def read_benchmarks(path: Path) -> list[Benchmark]:
    """Return the benchmarks in a file; UserError when one of them has no usable times."""
    data = json.loads(path.read_text(encoding="utf-8"))
    conditions = _conditions(data.get("machine_info"))
    try:
        return [_benchmark(entry, conditions) for entry in data["benchmarks"]]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path} is no file of pytest-benchmark: {error!r}") from None


def _conditions(machine: object) -> dict[str, object]:
    if not isinstance(machine, dict):
        return {}
    cpu = machine.get("cpu")
    brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
    names = ("node", "machine", "system", "python_version")
    return {name: machine.get(name) for name in names} | {"cpu": brand}


def _benchmark(entry: Mapping[str, Any], conditions: dict[str, object]) -> Benchmark:
    stats = entry["stats"]
    data = stats.get("data")
    if data:
        seconds = median_interval([float(value) for value in data])
    else:
        # A normal's median has a standard error of 0.929 · IQR / √n, times 1.96.
        middle, rounds = float(stats["median"]), int(stats["rounds"])
        half = 1.82 * float(stats["iqr"]) / math.sqrt(rounds)
        seconds = Interval(middle, middle - half, middle + half, rounds)
    if not (math.isfinite(seconds.estimate) and seconds.estimate > 0):
        raise ValueError(f"{entry['fullname']} took {seconds.estimate} s")
    return Benchmark(str(entry["fullname"]), seconds, conditions)
