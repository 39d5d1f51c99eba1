"""Make a row ready to be timed: the model in its runtime, its inputs, the first call, parity.

inference: session ──► first call ──► logits against eager fp32 ──► work: one call
training:  weights, optimiser ──► first step ──► gradient against eager fp32 ──► work: one step
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor, nn

from bench.compute import compiler, inference, parity, training_step
from bench.compute.int8.calibration import Calibration
from bench.compute.session import Session, Unsupported
from bench.compute.training_state import start
from bench.machine import numerics
from bench.machine.clock import event_clock, has_passed, synchronizer
from bench.measure.clock import Clock, Work
from bench.record.deployment import QuantizationFacts
from bench.record.profile import ParityFacts, SplitFacts
from bench.spec.profile import RowSpec
from bench.spec.recipe import RECIPES
from bench.spec.values import Mode, Precision

NUM_BUFFERS = 4
MAX_BUFFER_BYTES = 1 << 29
# The optimiser of the reference recipe; the rate is small, because random labels are learnt.
RECIPE = RECIPES["reference"].changed(lr=1e-4)
SPLIT_S = 2.0
MIN_SPLIT_STEPS, MAX_SPLIT_STEPS = 3, 20


@dataclass(frozen=True)
class Workload:
    """What is timed, and what making it ready took and showed.

    ``split`` times a few training steps in parts; ``compile_cached`` tells whether what the first
    call compiles was found on disk (see `compiler.from_cache`). ``session`` is what inference
    calls, and ``quantization`` how much of it computes in int8.
    """

    work: Work
    build_s: float
    first_call_s: float
    parity: ParityFacts | None
    split: Callable[[], SplitFacts] | None = None
    compile_cached: bool | None = None
    session: Session | None = None
    quantization: QuantizationFacts | None = None


@contextlib.contextmanager
def computing(device: str, precision: Precision, mode: Mode) -> Iterator[None]:
    """Set torch as a row needs it: TF32, cuDNN's search for its shapes, inference mode."""
    settings = numerics.computing_in(device, precision), numerics.fixed_shapes(device)
    with settings[0], settings[1], torch.inference_mode(mode == "infer"):
        yield


def clock_of(device: str) -> Clock:
    """Return the clock that waits for the device."""
    clock = Clock(synchronize=synchronizer(device))
    events = event_clock(device)
    if events is None:
        return clock
    return replace(clock, mark=events[0], between=events[1], passed=has_passed)


def random_images(batch_size: int, image_size: int, *, seed: int) -> Tensor:
    """Return normal noise (B, 3, H, W), which is what normalised images look like to a clock."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, 3, image_size, image_size, generator=generator)


def buffers(row: RowSpec, seed: int) -> list[Tensor]:
    """Return several inputs, so that no call finds its images in the cache from the last."""
    image_size = row.model.image_size
    size = 4 * 3 * image_size**2 * row.batch_size
    number = max(2, min(NUM_BUFFERS, MAX_BUFFER_BYTES // size))
    return [random_images(row.batch_size, image_size, seed=seed + i) for i in range(number)]


def infer(
    network: nn.Module,
    row: RowSpec,
    *,
    seed: int,
    calibration: Calibration | None = None,
    check: bool = True,
) -> Workload:
    """Make inference ready, int8 with ``calibration``; the runtime may raise what it likes."""
    images = buffers(row, seed)
    begin = perf_counter()
    session = inference.make(
        row.runtime, network, images[0], row.device, row.precision, calibration
    )
    build_s = perf_counter() - begin
    inputs = [session.adapt(image) for image in images]
    clock, cached = clock_of(row.device), compiler.from_cache()
    begin = clock.read()
    session.call(inputs[0])
    first_call_s = clock.read() - begin
    compile_cached = cached()
    following = itertools.cycle(inputs).__next__
    return Workload(
        lambda: session.call(following()),
        build_s,
        first_call_s,
        _logit_parity(network, session, images[0], row, calibration) if check else None,
        compile_cached=compile_cached,
        session=session,
        quantization=session.quantized() if session.quantized else None,
    )


def _logit_parity(
    network: nn.Module,
    session: Session,
    images: Tensor,
    row: RowSpec,
    calibration: Calibration | None,
) -> ParityFacts:
    """Compare a session's logits with eager fp32's.

    int8 is compared on images like those that its ranges were made for: noise lies outside them.
    """
    if calibration is not None:
        own = calibration.images
        images = own[torch.arange(row.batch_size) % len(own)]
    expected = parity.reference_logits(network, images, row.device)
    logits = session.call(session.adapt(images))
    return parity.compare_logits(logits, expected, row.precision)


def training(network: nn.Module, row: RowSpec, *, seed: int, check: bool = True) -> Workload:
    """Make training steps ready: forward, backward and the reference recipe's optimiser."""
    if row.precision == "int8":
        raise Unsupported("int8 does not train: it is made of a trained network")
    chosen = _trainable(row)
    batches = _labelled(row, seed)
    begin = perf_counter()
    model = training_step.place(copy.deepcopy(network).train(), row.device, row.runtime)
    state = start(
        model,
        RECIPE,
        device=row.device,
        precision=row.precision,
        captured=chosen.captured,
    )
    how = training_step.Setting(row.device, row.precision, row.runtime)
    forward = training_step.compiled(model, row.device) if chosen.compiled else model
    parts = training_step.parts(state, RECIPE, how, forward)
    build_s = perf_counter() - begin
    inputs = [_placed(batch, row) for batch in batches]
    clock, cached = clock_of(row.device), compiler.from_cache()
    begin = clock.read()
    _backward(parts, inputs[0])
    first_call_s = clock.read() - begin
    compile_cached = cached()
    found = _gradient_parity(network, model, parts, batches[0], row) if check else None
    model.zero_grad(set_to_none=True)
    take_step = training_step.whole(parts, state)
    if chosen.captured:
        begin = perf_counter()
        take_step = training_step.captured(take_step, inputs[0], row.device)
        build_s += perf_counter() - begin
    following = itertools.cycle(inputs).__next__
    return Workload(
        lambda: take_step(*following()),
        build_s,
        first_call_s,
        found,
        None if chosen.captured else lambda: time_parts(parts, inputs, clock),
        compile_cached,
    )


def _trainable(row: RowSpec) -> training_step.Runtime:
    name, device = row.runtime, row.device
    if problem := numerics.training_problem(device, row.precision):
        raise Unsupported(problem)
    if name not in training_step.RUNTIMES:
        able = ", ".join(training_step.RUNTIMES)
        raise Unsupported(f"{name} does not train; runtimes that do: {able}")
    if problem := training_step.runtime_problem(name, device):
        raise Unsupported(problem)
    return training_step.RUNTIMES[name]


def _backward(parts: training_step.Parts, batch: training_step.Batch) -> None:
    """Compute the gradient, unscaled, without changing the weights."""
    loss, _ = parts.forward(*batch)
    loss.backward()


def _labelled(row: RowSpec, seed: int) -> list[training_step.Batch]:
    generator = torch.Generator().manual_seed(seed)
    size = (row.batch_size,)
    return [
        (images, torch.randint(row.model.num_classes, size, generator=generator))
        for images in buffers(row, seed)
    ]


def _placed(batch: training_step.Batch, row: RowSpec) -> training_step.Batch:
    images, labels = batch
    layout = training_step.memory_format(row.runtime)
    return images.to(row.device, memory_format=layout), labels.to(row.device)


def _gradient_parity(
    network: nn.Module,
    model: nn.Module,
    parts: training_step.Parts,
    batch: training_step.Batch,
    row: RowSpec,
) -> ParityFacts:
    """Compare the first step's gradient with eager fp32's.

    Where the reference is the CPU, both are computed anew for a few images: the CPU is slow.
    """
    images, labels = batch
    if parity.reference_device(row.device) != row.device:
        images, labels = images[: parity.NUM_IMAGES], labels[: parity.NUM_IMAGES]
        model.zero_grad(set_to_none=True)
        _backward(parts, _placed((images, labels), row))
    expected = parity.reference_gradient(network, images, labels, row.device)
    return parity.compare_gradients(parity.gradient(model), expected, row.precision)


def time_parts(
    parts: training_step.Parts, inputs: Sequence[tuple[Tensor, Tensor]], clock: Clock
) -> SplitFacts:
    """Time a few training steps in their parts, waiting for the device after each."""
    times: list[tuple[float, float, float]] = []
    begin = clock.read()
    for images, labels in itertools.cycle(inputs):
        first = clock.read()
        loss, _ = parts.forward(images, labels)
        second = clock.read()
        parts.backward(loss)
        third = clock.read()
        parts.update()
        last = clock.read()
        times.append((second - first, third - second, last - third))
        enough = last - begin >= SPLIT_S and len(times) >= MIN_SPLIT_STEPS
        if enough or len(times) >= MAX_SPLIT_STEPS:
            break
    forward_s, backward_s, update_s = zip(*times, strict=True)
    return SplitFacts(forward_s=forward_s, backward_s=backward_s, update_s=update_s)
