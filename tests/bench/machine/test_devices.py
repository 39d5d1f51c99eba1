"""Devices: which there are, what they can compute, how many threads."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import UserError
from bench.machine import cgroups, clock, cores, device_memory, devices, numerics
from bench.machine.environment import collect_computing


def test_auto_is_the_best_device_there_is() -> None:
    assert devices.resolve("auto") == devices.available()[0]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", "", "CPU"])
def test_an_unknown_device_fails_by_listing_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown device .*; choose from: auto, cpu, cuda"):
        devices.resolve(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_that_is_not_there_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=rf"device {name} is not there .*this machine has: .*cpu"):
        devices.resolve(name)


def test_a_gpu_beyond_the_last_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    assert devices.resolve("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="cuda:2 is not there; this machine has: cuda:0, cuda:1"):
        devices.resolve("cuda:2")


def test_precisions_that_the_cpu_lacks_are_refused_with_the_reason() -> None:
    for precision in ("fp32", "bf16", "fp16"):
        assert numerics.precision_problem("cpu", precision) is None
    assert "needs a CUDA GPU" in str(numerics.precision_problem("cpu", "tf32"))
    with pytest.raises(UserError, match="unknown precision 'int4'; choose from: fp32, tf32"):
        numerics.check_precision("cpu", "int4")


def test_bf16_autocasts_and_fp32_does_not() -> None:
    a = torch.ones(2, 2)
    with numerics.autocast("cpu", "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with numerics.autocast("cpu", "fp32"):
        assert (a @ a).dtype == torch.float32


def test_tf32_is_on_inside_and_as_it_was_outside() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with numerics.computing_in("cpu", "tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    with numerics.computing_in("cpu", "fp32"):
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize(
    ("quota", "expected"), [(math.inf, 4), (2.0, 2), (2.9, 2), (0.5, 1), (8.0, 4)]
)
def test_threads_follow_affinity_and_quota_and_are_at_least_one(
    quota: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(
    ("own", "quotas", "expected"),
    [
        ("0::/a/b\n", {"a": "150000 100000", "a/b": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a": "400000 100000", "a/b": "200000 100000"}, 2.0),
        ("0::/a/b\n", {"a": "max 100000", "a/b": "max 100000"}, math.inf),
        ("0::/\n", {"": "300000 100000"}, 3.0),
        ("", {"": "300000 100000"}, 3.0),
    ],
)
def test_the_quota_is_the_least_of_the_groups_around_the_process(
    own: str, quotas: dict[str, str], expected: float, tmp_path: Path
) -> None:
    """A batch system limits a group in which the process' own group lies."""
    (tmp_path / "own").write_text(own)
    for folder, text in quotas.items():
        (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / folder / "cpu.max").write_text(text)
    assert cores.cgroup_quota(tmp_path / "root", tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("own", "folder", "quota", "expected"),
    [
        ("4:cpu,cpuacct:/job\n", "cpu,cpuacct/job", "150000", 1.5),
        ("4:cpu,cpuacct:/job\n", "cpu/job", "150000", 1.5),
        ("4:cpuacct,cpu:/slurm/job/step\n", "cpuacct,cpu/slurm/job", "200000", 2.0),
        ("4:cpu:/docker/abc\n", "cpu", "300000", 3.0),  # a container's own view
        ("4:cpu:/job\n", "cpu/job", "-1", math.inf),
        ("4:cpuset:/job\n", "cpuset/job", "100000", math.inf),
        ("", "cpu", "100000", 1.0),
    ],
)
def test_a_quota_of_the_first_version_is_found_where_the_process_is(
    own: str, folder: str, quota: str, expected: float, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    place = tmp_path / "root" / folder
    place.mkdir(parents=True)
    (place / "cpu.cfs_quota_us").write_text(quota)
    (place / "cpu.cfs_period_us").write_text("100000")
    assert cores.cgroup_quota(tmp_path / "root", tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a\n", {"a/memory.max": "1000", "a/memory.current": "300"}, 700),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "300"}, math.inf),
        ("0::/a\n", {"a/memory.high": "500", "a/memory.current": "600"}, 0),
        (
            "0::/a/b\n",
            {
                "a/b/memory.max": "max",
                "a/memory.max": "1000",
                "a/memory.current": "900",
                "a/memory.stat": "anon 500\ninactive_file 250\nactive_file 50\n",
            },
            400,
        ),
        (
            "4:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "1000",
                "memory/job/memory.usage_in_bytes": "900",
                "memory/job/memory.stat": "inactive_file 9\ntotal_inactive_file 100\n",
            },
            200,
        ),
        ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "7"}, math.inf),
        ("4:cpu:/job\n", {"cpu/job/memory.limit_in_bytes": "1"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_free_memory_is_what_the_groups_around_the_process_allow(
    own: str, files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    assert cgroups.free_memory(tmp_path / "root", tmp_path / "own") == expected


def test_memory_that_a_control_group_forbids_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda: 12345.0)
    assert device_memory.free_bytes("cpu") == 12345


@pytest.mark.parametrize(
    ("given", "num_processes", "expected"),
    [
        (None, 1, 8),
        (None, 4, 2),
        ("3", 1, 3),
        ("3,2", 1, 3),
        ("1", 1, 1),
        ("1", 4, 2),  # torchrun's own
        ("2", 4, 2),
        ("0", 1, 8),
        ("many", 1, 8),
        ("-2", 1, 8),
    ],
)
def test_a_wished_number_of_threads_is_respected(
    given: str | None, num_processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores.threads_for(num_processes) == expected


@pytest.mark.parametrize(
    "binding",
    [
        {"OMP_PROC_BIND": "true"},
        {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
        {"OMP_PLACES": "threads"},
        {"GOMP_CPU_AFFINITY": "0-1"},
        {"OMP_PROC_BIND": "spread"},
    ],
)
def test_threads_that_the_user_binds_hide_no_cores(binding: dict[str, str]) -> None:
    """OpenMP binds the main thread as torch is imported; the system then tells one core."""
    code = (
        "import os; before = len(os.sched_getaffinity(0))\n"
        "from bench.machine import cores, numerics\n"
        "assert 'torch' in __import__('sys').modules\n"
        "print(before, cores.usable_cores())"
    )
    clean = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | binding,
        capture_output=True,
        text=True,
        check=True,
    )
    before, found = map(int, done.stdout.split())
    assert found == max(1, math.floor(min(before, cores.cgroup_quota())))


def test_flags_tell_whether_denormals_are_flushed() -> None:
    """torch has no getter: the flag follows what arithmetic does."""
    assert numerics.flags("cpu")["flush_denormal"] == "False"
    numerics.prepare("cpu")
    assert numerics.flags("cpu")["flush_denormal"] == "True"


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "False"), ("tf32", "True")])
def test_an_environment_has_the_flags_of_its_precision(
    precision: Any, tf32: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded is in force while computing, whatever was set outside."""
    monkeypatch.setattr(
        numerics, "flags", lambda _: {"tf32": str(torch.backends.cuda.matmul.allow_tf32)}
    )
    with numerics.computing_in("cpu", "tf32" if precision == "fp32" else "fp32"):
        assert collect_computing("cpu", precision).flags == {"tf32": tf32}


@pytest.mark.gpu
def test_cuda_synchronises_and_describes_itself() -> None:
    device = devices.resolve("cuda")
    numerics.prepare(device)
    clock.synchronizer(device)()
    assert devices.device_name(device)
    assert device_memory.free_bytes(device) > 0
    assert "capability" in numerics.flags(device)
