"""Precision and determinism: what a device can compute in, and the switches of torch for it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.deterministic

from bench.errors import UserError
from bench.machine import heap, waiting
from bench.machine.cores import threads_for
from bench.machine.devices import kind
from bench.spec.values import PRECISIONS, Precision

DTYPE: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,  # of inputs and logits; what lies between is the quantiser's
}
"""What tensors of a precision are stored in."""
AUTOCAST: tuple[Precision, ...] = ("bf16", "fp16")
TF32_ON_ROCM = ("gfx940", "gfx941", "gfx942")  # AMD's CDNA 3 alone multiplies in it
FIRST_MPS_SCALER = (2, 8)  # torch's GradScaler could not see overflows on mps before


def precision_problem(device: str, precision: str) -> str | None:
    """Return why ``device`` cannot compute in ``precision``, or None when it can."""
    if precision not in PRECISIONS:
        return f"unknown precision {precision!r}; choose from: {', '.join(PRECISIONS)}"
    if precision == "int8" and kind(device) != "cpu":
        return f"int8 is computed on the CPU here: there is no way to it on {device} yet"
    if precision == "tf32" and not _has_tf32(device):
        return f"tf32 needs a CUDA GPU of compute capability 8.0 or later, not {device}"
    if precision == "bf16" and kind(device) == "cuda" and not _has_bf16(device):
        return f"{device} has no bf16 arithmetic; choose fp32 or fp16"
    return None


def _has_tf32(device: str) -> bool:
    if kind(device) != "cuda":
        return False
    gpu = torch.cuda.get_device_properties(device)
    if torch.version.hip:  # where the capability counts something else
        return str(gpu.gcnArchName).partition(":")[0] in TF32_ON_ROCM
    return int(gpu.major) >= 8


def _has_bf16(device: str) -> bool:
    """Tell whether this GPU, which need not be the current one, multiplies in bf16 itself.

    ``torch.cuda.is_bf16_supported`` asks the current GPU and counts emulation, which is slower
    than fp32.
    """
    return bool(torch.version.hip) or torch.cuda.get_device_properties(device).major >= 8


def check_precision(device: str, precision: str, *, train: bool = False) -> None:
    """Raise UserError when ``device`` cannot compute, or train, in ``precision``."""
    problem = precision_problem(device, precision)
    if problem is None and train:
        problem = training_problem(device, precision)
    if problem:
        raise UserError(problem)


def training_problem(device: str, precision: str) -> str | None:
    """Return why a device that computes in a precision cannot train in it, or None."""
    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if precision == "fp16" and kind(device) == "mps" and version < FIRST_MPS_SCALER:
        first = ".".join(map(str, FIRST_MPS_SCALER))
        return f"training in fp16 on mps needs torch {first}, not {torch.__version__}; choose fp32"
    return None


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


@contextlib.contextmanager
def as_torch_comes() -> Iterator[None]:
    """Set what `computing_in` and `fixed_shapes` change to torch's defaults inside the block.

    That is what a plain script trains with: TF32 in cuDNN's convolutions, none in matrix products,
    and cuDNN's first guess at an algorithm.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    former = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = False, True, False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = former


@contextlib.contextmanager
def fixed_shapes(device: str, *, deterministic: bool = False) -> Iterator[None]:
    """Let cuDNN try its algorithms once for each shape, which pays where shapes repeat.

    With ``deterministic`` it does not: only algorithms are used then that give the same bits every
    time, and torch raises RuntimeError for an operator that has none (see `no_deterministic`).
    Memory that is not initialised is left so: nothing here reads it before it is written, and
    filling every new tensor takes as long as a pass over it.
    """
    cudnn, former_mode = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    former = cudnn.benchmark, cudnn.deterministic
    filling: Any = torch.utils.deterministic  # a module whose attribute its types do not know
    former_fill = filling.fill_uninitialized_memory
    cudnn.benchmark = kind(device) == "cuda" and not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS' documented condition
        cudnn.deterministic = True
        torch.use_deterministic_algorithms(True)
        filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = former
        filling.fill_uninitialized_memory = former_fill
        torch.use_deterministic_algorithms(former_mode)


def no_deterministic(error: BaseException) -> str | None:
    """Return the operator that has no deterministic algorithm, where that is the error; or None."""
    found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
    return found.group(1) if found else None


def autocast(device: str, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Return torch's autocast for bf16 and fp16, and nothing for fp32 and tf32."""
    if precision not in AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(kind(device), dtype=DTYPE[precision])


def named_range(device: str) -> Callable[[str], contextlib.AbstractContextManager[object]]:
    """Return what marks a part of the work in a profile, on CUDA for NVIDIA's tools (NVTX) too."""
    if kind(device) != "cuda":
        return torch.profiler.record_function

    @contextlib.contextmanager
    def both(name: str) -> Iterator[None]:
        with torch.profiler.record_function(name), torch.cuda.nvtx.range(name):
            yield

    return both


def prepare(device: str, num_processes: int = 1) -> None:
    """Set what every measurement here relies on: threads after `usable_cores`, no denormals.

    ``num_processes`` on this machine share its cores.
    """
    torch.set_num_threads(threads_for(num_processes))
    flush_denormals()
    if kind(device) == "cuda":
        torch.cuda.set_device(device)


def flush_denormals() -> None:
    """Count numbers too small to be normal as zero: processors may take 100 times as long for them.

    A session of ONNX Runtime turns this off for the thread that makes it, and with that for all
    that the thread computes later.
    """
    torch.set_flush_denormal(True)


def flags(device: str) -> dict[str, str]:
    """Return the settings of torch that change speed or numbers on this device, as they are now."""
    common = {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "flush_denormal": str(_flushes_denormals()),
    }
    match kind(device):
        case "cpu":
            return common | {"freed_memory": heap.state(), "threads_wait": waiting.policy()}
        case "cuda":
            return common | _cuda_flags(device)
        case _:
            return common


def flags_over(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Return the flags of work that began and ended with these; what changed tells both."""
    return {
        name: value if after.get(name) == value else f"{value}, then {after.get(name)}"
        for name, value in before.items()
    }


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


def has_vnni() -> bool:
    """Tell whether this processor adds products of 8 bits into 32 without passing through 16.

    x86 without VNNI does pass through 16 bits, which two products of 8 bits overflow.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(known()) if known else False
