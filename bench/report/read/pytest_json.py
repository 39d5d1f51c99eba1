"""Read the JSON that pytest-benchmark writes (``--benchmark-json``, ``--benchmark-save-data``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.record.files import size_of_file
from bench.record.read_write import each_once
from bench.stats.times import Interval, median_interval

FEWEST_ROUNDS = 6  # below them no interval of a median is bounded


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its full name, its median time in seconds, and where it ran.

    Without ``conditions`` nothing is known of the machine, not even that it has a name.
    """

    name: str
    seconds: Interval
    conditions: dict[str, object]

    @property
    def machine(self) -> str:
        """Return the machine's name, or that it has none."""
        return str(self.conditions.get("node", "unknown"))


def is_benchmark_file(path: Path) -> bool:
    """Return whether a file holds benchmarks of pytest-benchmark."""
    try:
        size_of_file(path)
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("benchmarks"), list)


def benchmark_file(place: Path) -> Path | None:
    """Return the file of pytest-benchmark that a place is or holds; None if there is none.

    Of a folder, such as ``.benchmarks`` with one folder for each machine in it, that of the newest
    run.
    """
    if place.is_file():
        return place if is_benchmark_file(place) else None
    saved = [p for depth in ("*.json", "*/*.json") for p in place.glob(depth) if p.is_file()]
    found = [path for path in saved if is_benchmark_file(path)]
    return max(found, key=_when, default=None)


def _when(path: Path) -> tuple[str, str]:
    """Return when a file's benchmarks ran, as it says itself; its name counts the runs."""
    when = json.loads(path.read_text(encoding="utf-8-sig")).get("datetime")
    return (when if isinstance(when, str) else "", path.name)


def read_benchmarks(path: Path) -> list[Benchmark]:
    """Return the benchmarks in a file; UserError when one of them has no usable times."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=each_once)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    entries = data["benchmarks"]
    is_googles = any(isinstance(entry, dict) and "real_time" in entry for entry in entries)
    if is_googles or isinstance(data.get("context"), dict):
        raise UserError(f"{path} is from google-benchmark; JSON of pytest-benchmark can be read")
    conditions = _conditions(data.get("machine_info"))
    try:
        found = [_benchmark(entry, conditions) for entry in entries]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no file of pytest-benchmark: {error!r}") from None
    names = [benchmark.name for benchmark in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} holds {twice[0]} {names.count(twice[0])} times; which one counts?")
    return found


def _conditions(machine: object) -> dict[str, object]:
    if not isinstance(machine, dict):
        return {}
    cpu = machine.get("cpu")
    brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
    names = ("node", "machine", "system", "python_version")
    found = {name: machine.get(name) for name in names} | {"cpu": brand}
    return found if found["node"] else {}


def _benchmark(entry: Mapping[str, Any], conditions: dict[str, object]) -> Benchmark:
    stats = entry["stats"]
    data = stats.get("data")
    if data:
        times = [float(value) for value in data]
        if not all(math.isfinite(value) and value >= 0 for value in times):
            raise ValueError(f"{entry['fullname']} has times that are none")
        seconds = median_interval(times)
    else:
        middle, rounds = float(stats["median"]), int(stats["rounds"])
        iqr = float(stats["iqr"])
        if rounds < 1 or not (math.isfinite(iqr) and iqr >= 0):
            raise ValueError(f"{rounds} rounds that are {iqr} s apart")
        # A normal's median has a standard error of 0.929 · IQR / √n, times 1.96.
        half = 1.82 * iqr / math.sqrt(rounds)
        is_bounded = rounds >= FEWEST_ROUNDS
        low, high = (middle - half, middle + half) if is_bounded else (0.0, math.inf)
        seconds = Interval(middle, low, high, rounds)
    if not (math.isfinite(seconds.estimate) and seconds.estimate > 0):
        raise ValueError(f"{entry['fullname']} took {seconds.estimate} s")
    return Benchmark(str(entry["fullname"]), seconds, conditions)
