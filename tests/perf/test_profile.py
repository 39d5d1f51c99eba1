"""The whole profile command: how long it takes, and whether it says the same twice.

``pytest tests/perf/test_profile.py --benchmark-enable`` prints the figures and holds them to their
limits; without benchmarks a small profile shows that they are told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

THREE = ("se_resnet50", "resnet50", "resnet101", "--stem", "imagenet", "--dataset", "shapes",
         "--batch-size", "1,64", "--runtime", "eager")  # fmt: skip
SMALL = ("se_resnet18", "resnet18", "--stem", "imagenet", "--batch-size", "1,2", "--max-seconds",
         "0.05", "--no-memory", "--no-breakdown")  # fmt: skip
SECONDS = 90.0  # in all, on two cores
OUTSIDE = 15.0  # neither timed nor warm-up: imports, counting, files
WITHIN = 0.03  # of the other run's ratio


def profiled(arguments: tuple[str, ...], out: Path) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    command = (sys.executable, "-m", "bench", "profile", *arguments, "--device", "cpu", "--json")
    done = subprocess.run((*command, "--out", str(out)), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def throughput_ratios(found: dict[str, Any]) -> dict[str, float]:
    """Return SE's throughput over the plain model's, by batch size."""
    (taxes,) = found["se_tax"].values()
    rates = [tax for tax in taxes if tax["quantity"] == "throughput"]
    return {tax["setting"]: tax["ratio"]["estimate"] for tax in rates}


def test_three_models_in_time_and_twice_the_same(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """At most 90 s, 15 s of them neither timed nor warm-up; SE over plain within 3 %, twice."""
    small = benchmark.disabled
    arguments, times = (SMALL, 1) if small else (THREE, 2)
    found = [profiled(arguments, tmp_path / str(i)) for i in range(times)]
    seconds = [run["seconds"] for run in found]
    ratios = [throughput_ratios(run) for run in found]
    wanted = f"total ≤ {SECONDS:g} s, outside ≤ {OUTSIDE:g} s, ratios within {WITHIN:.0%}"
    benchmark.extra_info.update({"seconds": seconds, "SE over plain": ratios, "wanted": wanted})
    benchmark.pedantic(lambda: None)
    assert all(len(by_batch) == 2 for by_batch in ratios)
    if not small:
        assert max(run["total"] for run in seconds) <= SECONDS, seconds
        assert max(run["outside"] for run in seconds) <= OUTSIDE, seconds
        for setting, first in ratios[0].items():
            assert abs(ratios[1][setting] / first - 1) <= WITHIN, (setting, ratios)
