"""``senet-bench doctor``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bench.cli import options as opt
from bench.cli.options import arguments
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.record.environment import Environment

EXTRAS = {
    "onnxruntime": ("runtime onnxruntime", "pip install 'senet-bench[onnx]'"),
    "openvino": ("runtime openvino", "pip install 'senet-bench[openvino]'"),
    "pyarrow": ("results.parquet", "pip install 'senet-bench[parquet]'"),
    "pynvml": ("energy and clocks of NVIDIA GPUs", "pip install 'senet-bench[nvml]'"),
}
COMPILERS = ("c++", "g++", "clang++")
BUSY_SHARE = 0.2


def doctor(as_json: opt.AsJson = False) -> None:
    """Tell what this machine can do: devices, versions, threads, noise, and what is missing."""
    from bench.machine import devices, numerics
    from bench.machine.environment import collect

    unusable = []
    try:
        best = devices.resolve("auto")
    except UserError as problem:  # a GPU that torch has no kernels for
        best, unusable = "cpu", [str(problem)]
    numerics.prepare(best)
    environment = collect(best)
    devices_here = {
        name: {
            "name": environment.cpu_model if name == "cpu" else devices.device_name(name),
            "precisions": numerics.precisions(name),
        }
        for name in devices.available()
    }
    missing = [*_missing(), *_no_compiler(best)]
    problems = [*unusable, *_noise(environment)]
    if as_json:
        arguments.print_json(
            {
                "best_device": best,
                "devices": devices_here,
                "environment": environment.model_dump(mode="json"),
                "missing": missing,
                "noise": problems,
            }
        )
    else:
        _print(best, devices_here, environment, missing, problems)


def _missing() -> list[dict[str, str]]:
    from importlib.util import find_spec

    return [
        {"package": package, "for": what, "get": how}
        for package, (what, how) in EXTRAS.items()
        if find_spec(package) is None
    ]


def _no_compiler(device: str) -> list[dict[str, str]]:
    """Return what the runtimes that compile lack: C++ on the CPU, triton on a GPU."""
    from importlib.util import find_spec
    from shutil import which

    if device.startswith("cuda"):
        package, how, there = "triton", "pip install triton", find_spec("triton") is not None
    else:
        named = os.environ.get("CXX")
        package, how = "a C++ compiler", "apt install g++, or xcode-select --install on a Mac"
        there = any(map(which, (named,) if named else COMPILERS))
    return [] if there else [{"package": package, "for": "runtime compile", "get": how}]


def _noise(environment: Environment) -> list[str]:
    """Return what on this machine would make timings doubtful, in words."""
    found = []
    load, cores = environment.load_1min, environment.num_cores
    if load is not None and load > BUSY_SHARE * cores:
        found.append(f"load {load:.1f} on {cores} cores: other work is running; timings will vary")
    if environment.env.get("PYTORCH_ENABLE_MPS_FALLBACK", "0") != "0":
        found.append("PYTORCH_ENABLE_MPS_FALLBACK is set: unsupported operators run on the CPU")
    return found


def _print(
    best: str,
    devices_here: dict[str, Any],
    environment: Environment,
    missing: list[dict[str, str]],
    problems: list[str],
) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from bench.machine import waiting

    table = Table(box=SIMPLE, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, facts in devices_here.items():
        chosen = " (best: --device auto takes it)" if name == best else ""
        able = ", ".join(facts["precisions"])
        table.add_row(f"device {name}", f"{facts['name']}{chosen}; precisions {able}")
    for absent in ("cuda", "mps"):
        if not any(name.startswith(absent) for name in devices_here):
            table.add_row(f"device {absent}", "not on this machine")
    gib = environment.memory_bytes / 2**30
    table.add_row("system", f"{environment.os}, Python {environment.python}, {gib:.1f} GiB memory")
    table.add_row("processor", f"{environment.cpu_model}, {environment.cpu_isa}")
    table.add_row("threads", f"{environment.num_threads} on {environment.num_cores} usable cores")
    table.add_row("", f"waiting by {waiting.policy()}")
    versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    table.add_row("versions", versions)
    for key, value in environment.env.items():
        table.add_row("variable", f"{key}={value}")
    for problem in problems or ["nothing found: load is low"]:
        table.add_row("noise", problem)
    for item in missing:
        table.add_row("missing", f"{item['package']} ({item['for']}): {item['get']}")
    Console().print(table, highlight=False, markup=False)
