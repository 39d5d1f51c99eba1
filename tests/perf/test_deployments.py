"""What deploying costs: int8 over fp32, and the pass over the test set beside the row's own rate.

``pytest tests/perf/test_deployments.py --benchmark-enable`` prints the figures and holds them to
their limits; without benchmarks small models show that they are told.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

TIMES_AT_224 = 2.5  # int8's throughput over the same runtime's fp32, ResNet-50, one image
TIMES_AT_32 = 1.5  # the same with the CIFAR stem
PASS = 2.0  # the pass over the test set, in times of what it takes at the row's own throughput
NEEDED = {"onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "nncf")}


def command(*arguments: str) -> str:
    done = subprocess.run(
        (sys.executable, "-m", "bench", *arguments), capture_output=True, text=True, check=True
    )
    return done.stdout


def rows(*arguments: str, out: Path) -> list[dict[str, Any]]:
    """Return the offline rows of a profile."""
    fixed = ("--device", "cpu", "--json", "--no-memory", "--no-breakdown", "--out", str(out))
    found = json.loads(command("profile", *arguments, *fixed))["rows"]
    return [row for row in found if row["scenario"] == "offline"]


def available() -> list[str]:
    return [n for n, mods in NEEDED.items() if all(map(importlib.util.find_spec, mods))]


@pytest.mark.parametrize(("image_size", "stem"), [(224, "imagenet"), (32, "cifar")])
def test_int8_is_faster_than_fp32(
    image_size: int, stem: str, benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """In at least one of the runtimes: 2.5 times at 224, 1.5 times at 32 with the CIFAR stem."""
    small, runtimes = benchmark.disabled, available()
    if small:  # one each: the figures are none anyway
        runtimes = runtimes[:1] if stem == "imagenet" else runtimes[-1:]
    if not runtimes:
        pytest.skip("neither onnxruntime nor openvino with nncf is installed")
    model = "resnet18" if small else "resnet50"
    found = rows(
        *(model, "--stem", stem, "--image-size", str(32 if small else image_size)),
        *("--runtime", ",".join(runtimes), "--precision", "fp32,int8", "--batch-size", "1"),
        *("--calibration-images", "8" if small else "128"),
        *("--max-seconds", "0.05" if small else "8"),
        out=tmp_path,
    )
    rate = {(row["runtime"], row["precision"]): row["throughput"] for row in found}
    times = {name: rate[name, "int8"] / rate[name, "fp32"] for name in runtimes}
    told = {" ".join(key): value for key, value in rate.items()}
    benchmark.extra_info.update({"int8 over fp32": times, "img/s": told})
    benchmark.pedantic(lambda: None)
    assert all(row["int8_operators"] for row in found if row["precision"] == "int8")
    if not small:
        assert max(times.values()) >= (TIMES_AT_224 if image_size == 224 else TIMES_AT_32), times


def test_the_pass_over_the_test_set_costs_at_most_twice_its_images(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """10,000 images at the row's own throughput, twice at most; eager, at batches of 1 and 64."""
    small = benchmark.disabled
    images = ("60", "30") if small else ("3000", "1000")
    command(
        *("train", "resnet18", "--stem", "imagenet", "--dataset", "shapes", "--recipe", "quick"),
        *("--epochs", "1", "--train-limit", images[0], "--test-limit", images[1]),
        *("--device", "cpu", "--out", str(tmp_path / "runs")),
    )
    (run,) = (tmp_path / "runs").glob("*/")
    found = rows(
        *("--run", str(run), "--batch-size", "1,64", "--runtime", "eager"),
        *("--max-seconds", "0.05" if small else "8"),
        out=tmp_path / "profiles",
    )
    times = {r["batch_size"]: r["accuracy_s"] * r["throughput"] / int(images[1]) for r in found}
    benchmark.extra_info.update({"times of its images": times})
    benchmark.pedantic(lambda: None)
    assert set(times) == {1, 64}
    if not small:
        assert max(times.values()) <= PASS, times
