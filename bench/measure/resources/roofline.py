"""What the machine can do at most, measured: arithmetic by precision, and copying memory.

The ceilings of the roofline model (Williams, Waterman and Patterson, 2009): no network computes
faster than the one or moves data faster than the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import torch

from bench.machine import devices, numerics
from bench.machine.numerics import DTYPE
from bench.measure.clock import Clock, Work, time_block
from bench.record.profile import MachineFacts
from bench.spec.values import Precision

# Large enough for the best kernels to be at their best, small enough for a second in all.
MATMUL_SIZES = {"cpu": (1024, 1536), "cuda": (4096, 8192), "mps": (2048, 4096)}
COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30, "mps": 1 << 28}
# (images, channels, side) of a 3×3 convolution that keeps as many channels.
CONV_SHAPE = (64, 128, 16)
BLOCK_S = 0.04
NUM_BLOCKS = 4
SLOW_S = 1.0  # a call this long is arithmetic without kernels, and steady as it is


def measure(device: str, precisions: Iterable[Precision], clock: Clock) -> MachineFacts:
    """Return the best of a few blocks for each ceiling, in FLOP/s and bytes/s."""
    timed = (p for p in precisions if p != "int8")  # torch has no int8 product to time it by
    able = [p for p in timed if numerics.precision_problem(device, p) is None]
    begin = perf_counter()
    matmul: dict[str, float] = {
        precision: matmul_flops(device, precision, clock) for precision in able
    }
    conv: dict[str, float] = {p: conv_flops(p, clock) for p in able} if device == "cpu" else {}
    copy = copy_bytes_per_s(device, clock)
    return MachineFacts(
        matmul_flops=matmul,
        conv_flops=conv,
        copy_bytes_per_s=copy,
        timed_s=perf_counter() - begin,
    )


def matmul_flops(device: str, precision: Precision, clock: Clock) -> float:
    """Return the FLOP/s of square matrix products, the best size; 2 FLOP a multiply-accumulate.

    A product that takes `SLOW_S` is not followed by a larger one.
    """

    def seconds(size: int) -> float:
        a, b = (torch.randn(size, size, device=device).to(DTYPE[precision]) for _ in range(2))
        out = torch.empty_like(a)
        return best_call_s(lambda: torch.mm(a, b, out=out), clock)

    best = 0.0
    with numerics.computing_in(device, "tf32" if precision == "tf32" else "fp32"):
        for size in MATMUL_SIZES[devices.kind(device)]:
            call_s = seconds(size)
            best = max(best, 2 * size**3 / call_s)
            if call_s >= SLOW_S:
                break
    return best


def conv_flops(precision: Precision, clock: Clock) -> float:
    """Return the FLOP/s of a 3×3 convolution on the CPU, in the faster of the memory formats.

    It is computed by another library than matrix products, directly: other devices may take a way
    with fewer multiplications, which would be no ceiling of arithmetic.
    """
    batch, channels, side = CONV_SHAPE
    images = torch.randn(batch, channels, side, side).to(DTYPE[precision])
    kernel = torch.randn(channels, channels, 3, 3).to(DTYPE[precision])
    flops = 2 * batch * side**2 * channels**2 * 9

    def reached(layout: torch.memory_format) -> float:
        x, w = (tensor.contiguous(memory_format=layout) for tensor in (images, kernel))
        return flops / best_call_s(lambda: torch.conv2d(x, w, padding=1), clock)

    return max(map(reached, (torch.contiguous_format, torch.channels_last)))


def copy_bytes_per_s(device: str, clock: Clock) -> float:
    """Return the bytes a second, read and written, of copying a tensor too large for caches."""
    size = COPY_BYTES[devices.kind(device)]
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / best_call_s(lambda: target.copy_(source), clock)


def best_call_s(work: Work, clock: Clock) -> float:
    """Return the shortest mean of a block's calls: a ceiling is what was reached once."""
    work()
    once = max(time_block(work, 1, clock).seconds, 1e-9)
    if once >= SLOW_S:
        return once
    iters = max(1, round(BLOCK_S / once))
    return min(time_block(work, iters, clock).seconds / iters for _ in range(NUM_BLOCKS))
