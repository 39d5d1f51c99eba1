"""Where something is measured: commit, versions, processor, device, settings, load."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
import torch

from bench.machine import cores, device_memory, devices, numerics
from bench.record.environment import Environment
from bench.spec.values import Precision

PACKAGES = (
    "senet-bench",
    "torch",
    "torchvision",
    "numpy",
    "fvcore",
    "triton",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "nncf",
    "torchao",
)
PREFIXES = (
    *("PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "OMP_", "GOMP_", "MKL_", "KMP_", "CUDA_", "CUBLAS_"),
    *("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"),
)
GIT_TIMEOUT_S = 2.0


def collect_computing(device: str, precision: Precision, *, keep_freed: bool = True) -> Environment:
    """Return `collect` with the flags in force while ``device`` computes in ``precision``."""
    memory = device_memory.keeping_freed(device, wanted=keep_freed)
    with numerics.computing_in(device, precision), memory:
        return collect(device)


def collect(device: str) -> Environment:
    """Return what a record must say about this machine and ``device`` for its numbers to count.

    ``flags`` are those in force now. ``commit`` and ``dirty`` are those of the checkout this
    package runs from, None when it was installed from elsewhere or git is missing.
    """
    commit, dirty = checkout_state()
    return Environment(
        host=socket.gethostname(),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=package_versions(),
        commit=commit,
        dirty=dirty,
        device=device,
        device_name=cpu_model() if device == "cpu" else devices.device_name(device),
        driver=devices.driver_version(device),
        cpu_model=cpu_model(),
        cpu_isa=torch.backends.cpu.get_cpu_capability(),
        num_cores=cores.usable_cores(),
        num_threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        load_1min=load_1min(),
        flags=numerics.flags(device),
        env={k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIXES)},
        started_at=utc_now(),
    )


JOB = "bench.execute.jobs"  # in the command of the process of a job, behind it its folder and name


def jobs_beside() -> set[str]:
    """Return the names of the other jobs, of whichever suite, that are done on this machine now."""
    names: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if JOB in words and process.pid != os.getpid():
            names.update(words[words.index(JOB) + 2 :])
    return names


def utc_now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def load_1min() -> float | None:
    """Return the run queue's mean length over the last minute, None where it is not kept."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that can change a number."""

    def versions() -> Iterator[tuple[str, str]]:
        for name in PACKAGES:
            try:
                yield name, metadata.version(name)
            except metadata.PackageNotFoundError:
                continue

    return dict(versions())


@functools.cache
def checkout_state(folder: Path = Path(__file__).parents[2]) -> tuple[str | None, bool | None]:
    """Return the commit of the git checkout at ``folder`` and whether tracked files differ."""
    if not (folder / ".git").exists():
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit or None, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, None when it is missing, slow or refuses."""
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *arguments),
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(("sysctl", "-n", name), capture_output=True, text=True, timeout=1.0)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
