"""The only file that names cuda, mps and cpu: choosing, synchronising, autocasting, describing.

Devices are strings everywhere else: ``cpu``, ``cuda:0``, ``mps``.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from bench import heap
from bench.errors import UserError, unknown
from bench.spec import PRECISIONS, Precision

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(name: str) -> str:
    """Return the device that ``name`` stands for; UserError when this machine has none such."""
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    if name == "cpu":
        return name
    if name == "mps":
        if not _has_mps():
            raise UserError(f"device mps is not there; this machine has: {', '.join(available())}")
        return name
    found = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", name)
    if found is None:
        raise unknown("device", name, DEVICES)
    return _resolve_cuda(name, int(found[1] or 0))


def _resolve_cuda(name: str, index: int) -> str:
    if not torch.cuda.is_available():
        built = torch.backends.cuda.is_built()
        why = "no GPU found" if built else "torch is built without CUDA"
        here = ", ".join(available())
        raise UserError(f"device {name} is not there ({why}); this machine has: {here}")
    if index >= torch.cuda.device_count():
        raise UserError(f"device {name} is not there; this machine has: {', '.join(available())}")
    return f"cuda:{index}"


def available() -> tuple[str, ...]:
    """Return the devices that this machine can run on, the best first."""
    cudas = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    return (*cudas, *(("mps",) if _has_mps() else ()), "cpu")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def kind(device: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps``."""
    return device.partition(":")[0]


def synchronizer(device: str) -> Callable[[], None]:
    """Return a function that waits until all work given to the device is done."""
    match kind(device):
        case "cuda":
            return lambda: torch.cuda.synchronize(device)
        case "mps":
            return torch.mps.synchronize
        case _:
            return lambda: None


def event_clock(
    device: str,
) -> tuple[Callable[[], object], Callable[[Any, Any], float]] | None:
    """Return how to mark the device's queue and to read the seconds between two marks.

    None where there are no events (the CPU) or where they can hang or read reversed (mps).
    """
    return _cuda_marks(device) if kind(device) == "cuda" else None


def _cuda_marks(device: str) -> tuple[Callable[[], object], Callable[[Any, Any], float]]:
    def mark() -> object:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def between(first: Any, last: Any) -> float:
        return float(first.elapsed_time(last)) / 1e3

    return mark, between


def capture_step(step: Callable[[], None], device: str, num_warmups: int = 3) -> Callable[[], None]:
    """Record a step that reads and writes the same memory each time as a CUDA graph.

    Returns what replays it. The step is taken ``num_warmups`` times before, on a stream of its
    own as recording demands, and its effects are the caller's to undo; recording takes none.
    """
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(num_warmups):
            step()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def capture_graph(
    call: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Record one call as a CUDA graph; return what replays it on an input of the same shape."""
    static_input, outputs = example.clone(), list[torch.Tensor]()

    def step() -> None:
        outputs[:] = [call(static_input)]

    replay_step = capture_step(step, str(example.device))

    def replay(images: torch.Tensor) -> torch.Tensor:
        static_input.copy_(images)
        replay_step()
        return outputs[0]

    return replay


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device's memory did not suffice."""
    text = str(error).lower()
    known = ("out of memory", "can't allocate memory", "alloc_cpu", "bad_alloc", "bad alloc")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(k in text for k in known)


def is_lost(error: BaseException) -> bool:
    """Tell whether an error means that the device itself failed or is no longer there."""
    text = str(error).lower()
    known = (
        "unspecified launch failure",
        "device is lost",
        "ecc error",
        "no cuda-capable device",
        "cuda error: unknown error",
        "gpu is lost",
        "device unavailable",
        "busy or unavail",
    )
    return isinstance(error, RuntimeError) and any(words in text for words in known)


def release_memory(device: str) -> None:
    """Give memory that is kept and that no tensor uses back to the device."""
    match kind(device):
        case "cuda":
            torch.cuda.empty_cache()
        case "mps":
            torch.mps.empty_cache()
        case _:
            heap.release()


def sender(device: str) -> Callable[[Tensor], Callable[[], Tensor]]:
    """Return a function that starts to copy a host tensor, and returns one that gives the copy.

    On CUDA the copy runs beside the computation, out of pinned memory and on a stream of its own;
    whoever takes it waits for it on the device alone. Elsewhere the copy is made when it is taken.
    """
    if kind(device) != "cuda":
        return lambda tensor: partial(Tensor.to, tensor, device)
    stream = torch.cuda.Stream(device)

    def send(tensor: Tensor) -> Callable[[], Tensor]:
        with torch.cuda.stream(stream):
            copy = tensor.pin_memory().to(device, non_blocking=True)
            return partial(_received, copy, stream.record_event())

    return send


def _received(copy: Tensor, sent: torch.cuda.Event) -> Tensor:
    current = torch.cuda.current_stream(copy.device)
    current.wait_event(sent)
    copy.record_stream(current)  # or its memory could be used again while this stream reads it
    return copy


def precision_problem(device: str, precision: str) -> str | None:
    """Return why ``device`` cannot compute in ``precision``, or None when it can."""
    if precision not in PRECISIONS:
        return f"unknown precision {precision!r}; choose from: {', '.join(PRECISIONS)}"
    if precision == "tf32" and not _has_tf32(device):
        return f"tf32 needs a CUDA GPU of compute capability 8.0 or later, not {device}"
    if precision == "bf16" and kind(device) == "cuda" and not torch.cuda.is_bf16_supported():
        return f"{device} has no bf16 arithmetic; choose fp32 or fp16"
    return None


def _has_tf32(device: str) -> bool:
    return kind(device) == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def check_precision(device: str, precision: str) -> None:
    """Raise UserError when ``device`` cannot compute in ``precision``."""
    problem = precision_problem(device, precision)
    if problem:
        raise UserError(problem)


@contextlib.contextmanager
def computing_in(device: str, precision: Precision) -> Iterator[None]:
    """Switch TF32 on for tf32 inside the block, and off for all others: fp32 means fp32.

    bf16 and fp16 are entered by `autocast`, around each forward pass alone: it keeps its copies of
    the weights until it is left, and would go on with them after an optimiser's step.
    """
    former = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = former


def keeping_freed(device: str, *, wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Keep freed memory for the next tensor, as torch does on a GPU by itself; see `bench.heap`."""
    return heap.kept(wanted and kind(device) == "cpu")


@contextlib.contextmanager
def fixed_shapes(device: str, *, deterministic: bool = False) -> Iterator[None]:
    """Let cuDNN try its algorithms once for each shape, which pays where shapes repeat.

    With ``deterministic`` it does not: only algorithms are used then that give the same bits every
    time, and torch raises RuntimeError for an operator that has none (see `no_deterministic`).
    """
    cudnn, former_mode = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    former = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark = kind(device) == "cuda" and not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS' documented condition
        cudnn.deterministic = True
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = former
        torch.use_deterministic_algorithms(former_mode)


def no_deterministic(error: BaseException) -> str | None:
    """Return the operator that has no deterministic algorithm, where that is the error; or None."""
    found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
    return found.group(1) if found else None


def autocast(device: str, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Return torch's autocast for bf16 and fp16, and nothing for fp32 and tf32."""
    if precision not in AUTOCAST_DTYPE:
        return contextlib.nullcontext()
    return torch.autocast(kind(device), dtype=AUTOCAST_DTYPE[precision])


def named_range(device: str) -> Callable[[str], contextlib.AbstractContextManager[object]]:
    """Return what marks a part of the work in a profile, on CUDA for NVIDIA's tools (NVTX) too."""
    if kind(device) != "cuda":
        return torch.profiler.record_function

    @contextlib.contextmanager
    def both(name: str) -> Iterator[None]:
        with torch.profiler.record_function(name), torch.cuda.nvtx.range(name):
            yield

    return both


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


def prepare(device: str, num_processes: int = 1) -> None:
    """Set what every measurement here relies on: threads after `usable_cores`, no denormals.

    ``num_processes`` on this machine share its cores.
    """
    torch.set_num_threads(max(1, usable_cores() // num_processes))
    torch.set_flush_denormal(True)
    if kind(device) == "cuda":
        torch.cuda.set_device(device)


def generators(device: str) -> dict[str, Tensor]:
    """Return the states of torch's generators that a model on ``device`` may draw from."""
    states = {"cpu": torch.get_rng_state()}
    match kind(device):
        case "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        case "mps":
            states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, Tensor], device: str) -> None:
    """Put torch's generators into the states that `generators` gave."""
    torch.set_rng_state(states["cpu"])
    match kind(device):
        case "cuda":
            torch.cuda.set_rng_state(states["cuda"], device)
        case "mps":
            torch.mps.set_rng_state(states["mps"])


def allocated_bytes(device: str) -> int | None:
    """Return the bytes that tensors hold on an accelerator now; None on the CPU."""
    match kind(device):
        case "cuda":
            return torch.cuda.memory_allocated(device)
        case "mps":
            return torch.mps.current_allocated_memory()
        case _:
            return None


def gpu_uuid(device: str) -> str | None:
    """Return the UUID by which NVML knows the GPU, None for other devices."""
    if kind(device) != "cuda":
        return None
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", "")) or None


def occupier(device: str) -> Callable[[float], None] | None:
    """Return what keeps the device busy for about so many seconds without waiting for it.

    Work given to it meanwhile queues up, so that the device does it without waiting for the host.
    None where there are no events to time such work by.
    """
    if kind(device) != "cuda":
        return None
    square = torch.ones(4096, 4096, device=device)
    mark, between = _cuda_marks(device)
    torch.mm(square, square)
    first = mark()
    torch.mm(square, square)
    last = mark()
    torch.cuda.synchronize(device)
    once_s = max(1e-5, between(first, last))

    def occupy(seconds: float) -> None:
        for _ in range(1 + int(seconds / once_s)):
            torch.mm(square, square)

    return occupy


def free_bytes(device: str) -> int:
    """Return the memory that is free on the device (for mps: below the recommended maximum)."""
    match kind(device):
        case "cuda":
            return torch.cuda.mem_get_info(device)[0]
        case "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        case _:
            return psutil.virtual_memory().available


def device_name(device: str) -> str:
    """Return the name that a person would give the device."""
    match kind(device):
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "mps":
            return "Apple GPU (Metal)"
        case _:
            return "CPU"


def driver_version(device: str) -> str | None:
    """Return the version of the device's driver (mps: of the system it ships with), or None."""
    match kind(device):
        case "cuda":
            return _cuda_driver()
        case "mps":
            return f"macOS {platform.mac_ver()[0]}"
        case _:
            return None


def _cuda_driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found.group() if found else None


def flags(device: str) -> dict[str, str]:
    """Return the settings of torch that change speed or numbers on this device, as they are now."""
    common = {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "flush_denormal": str(_flushes_denormals()),
    }
    match kind(device):
        case "cpu":
            return common | {"freed_memory": heap.state()}
        case "cuda":
            return common | _cuda_flags(device)
        case _:
            return common


def _flushes_denormals() -> bool:
    """Compute a number too small to be normal: torch sets the mode and does not tell it."""
    return (torch.tensor(2e-38) * 0.1).item() == 0.0


def _cuda_flags(device: str) -> dict[str, str]:
    major, minor = torch.cuda.get_device_capability(device)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "capability": f"{major}.{minor}",
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn.version()),
        "cudnn_benchmark": str(cudnn.benchmark),
        "cudnn_deterministic": str(cudnn.deterministic),
        "cudnn_allow_tf32": str(cudnn.allow_tf32),
        "matmul_allow_tf32": str(matmul.allow_tf32),
        "matmul_reduced_bf16": str(matmul.allow_bf16_reduced_precision_reduction),
        "matmul_reduced_fp16": str(matmul.allow_fp16_reduced_precision_reduction),
    }


def precisions(device: str) -> list[Precision]:
    """Return the precisions that the device computes in."""
    return [name for name in PRECISIONS if precision_problem(device, name) is None]
