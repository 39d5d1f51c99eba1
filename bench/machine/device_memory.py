"""A device's memory: running out of it, giving it back, reading what is free, copying into it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import psutil
import torch
from torch import Tensor

from bench.machine import heap
from bench.machine.cgroups import free_memory
from bench.machine.devices import kind

OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP and mps
    "can't allocate memory",
    "alloc_cpu",
    "bad_alloc",
    "bad alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "miopenstatusallocfailed",
    "unable to find an engine",  # cuDNN, when no algorithm's workspace fits
    "invalid buffer size",  # Metal, for a tensor larger than a buffer may be
)
"""How libraries say it, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device's memory did not suffice.

    Its causes are asked too: what ends the capture of a CUDA graph, for one, says of a lack of
    memory only that the capture failed.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        text = str(cause).lower()
        if isinstance(cause, (torch.OutOfMemoryError, MemoryError)) or any(
            words in text for words in OUT_OF_MEMORY
        ):
            return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


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


def keeping_freed(device: str, *, wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Keep freed memory for the next tensor, as torch does on a GPU by itself.

    See `bench.machine.heap`.
    """
    return heap.kept(wanted and kind(device) == "cpu")


def free_bytes(device: str) -> int:
    """Return the bytes that are free on the device, and that this process may use.

    On mps those below the recommended maximum, on the CPU what the control groups allow.
    """
    match kind(device):
        case "cuda":
            return torch.cuda.mem_get_info(device)[0]
        case "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        case _:
            return int(min(psutil.virtual_memory().available, free_memory()))
