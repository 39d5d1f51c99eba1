"""One optimiser step, in each of the runtimes that a training can use.

A step never waits for the device: losses, hits and skipped steps add up there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import torch
import torch._dynamo.exc
import torch.nn.functional as F
from torch import Tensor, nn

from bench.compute import distributed, ema
from bench.compute.compiler import options, prepare_compiler
from bench.compute.distributed import ALONE, Group
from bench.compute.products import able_convolutions, as_products
from bench.compute.training_state import HITS, LONGEST, LOSS, SKIPPED, STREAK, Training, unchanged
from bench.errors import UserError, said, unknown
from bench.machine import clock, devices, graphs, numerics
from bench.spec.recipe import Recipe
from bench.spec.values import Precision

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W), and labels (B,) or, with Mixup, shares of the classes (B, K)."""


class Step(Protocol):
    """Learns from images and labels, the gradient multiplied by a weight."""

    def __call__(self, images: Tensor, labels: Tensor, weight: float = 1.0) -> None: ...


@dataclass(frozen=True)
class Parts:
    """A step in three parts: to loss () and logits (B, K), to the gradient, to new weights."""

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor], None]
    update: Callable[[], None]


Mark = Callable[[str], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Runtime:
    """How a step is run: the layout of images and weights, by Inductor's code, as a CUDA graph.

    With ``products``, convolutions that are products of matrices are computed as such.
    """

    memory_format: torch.memory_format = torch.contiguous_format
    compiled: bool = False
    captured: bool = False
    products: bool = False


RUNTIMES: dict[str, Runtime] = {
    "eager": Runtime(),
    "channels_last": Runtime(torch.channels_last),
    "channels_last_matmul": Runtime(torch.channels_last, products=True),
    "compile": Runtime(compiled=True),
    "compile_channels_last": Runtime(torch.channels_last, compiled=True),
    "compile_channels_last_matmul": Runtime(torch.channels_last, compiled=True, products=True),
    "cudagraph": Runtime(captured=True),
    "cudagraph_channels_last": Runtime(torch.channels_last, captured=True),
    "compile_cudagraph": Runtime(torch.channels_last, compiled=True, captured=True),
}
"""Every one takes the same steps; `auto` stands for the fastest of them."""


def no_mark(name: str) -> contextlib.AbstractContextManager[object]:
    """Mark nothing: what steps do outside of a trace."""
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Setting:
    """Where and how a training computes."""

    device: str = "cpu"
    precision: Precision = "fp32"
    runtime: str = "eager"
    group: Group = ALONE
    mark: Mark = no_mark


def check_runtime(runtime: str, device: str, world_size: int = 1) -> None:
    """Raise UserError unless models can be trained in ``runtime`` on ``device``."""
    if runtime == "auto":
        return
    if runtime not in RUNTIMES:
        raise unknown("training runtime", runtime, (*RUNTIMES, "auto"))
    problem = runtime_problem(runtime, device, world_size)
    if problem:
        raise UserError(problem)


def runtime_problem(runtime: str, device: str, world_size: int = 1) -> str | None:
    """Return why a runtime cannot train on a device, or None when it can."""
    chosen = RUNTIMES[runtime]
    if chosen.memory_format == torch.channels_last and devices.kind(device) == "mps":
        return "mps computes wrong gradients in channels_last; choose runtime eager"
    if chosen.products and devices.kind(device) != "cpu":
        return f"runtime {runtime} is faster on a CPU alone; choose {runtime[: -len('_matmul')]}"
    if chosen.captured and devices.kind(device) != "cuda":
        return f"runtime {runtime} needs a CUDA GPU, not {device}; choose eager or compile"
    if chosen.captured and world_size > 1:
        return f"runtime {runtime} trains in one process alone; choose channels_last or compile"
    return None


def memory_format(runtime: str) -> torch.memory_format:
    """Return how images (B, C, H, W) and weights lie in memory."""
    return RUNTIMES[runtime].memory_format


def place(model: nn.Module, device: str, runtime: str) -> nn.Module:
    """Move a model to its device and into the memory format of the runtime."""
    layout = memory_format(runtime)
    # torch's annotations of Module.to do not know memory_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def ready_step(training: Training, recipe: Recipe, setting: Setting, example: Batch | None) -> Step:
    """Return the function that takes a step, compiled or captured for batches like ``example``.

    The training is as it was before; the seconds are added to its ``compile_s``. Batches of
    another shape, which is the last of an epoch, are taken operator by operator.
    """
    runtime = RUNTIMES[setting.runtime]
    model = distributed.parallel(training.model, setting.device, setting.group)
    eager = whole(parts(training, recipe, setting, model), training, setting.mark)
    if not (runtime.compiled or runtime.captured):
        return eager
    assert example is not None, "compiling needs an example"
    begin = perf_counter()
    with unchanged(training, setting.device):
        fast = eager
        if runtime.compiled:
            forward = compiled(model, setting.device)
            fast = whole(parts(training, recipe, setting, forward), training, setting.mark)
            _compile(fast, example, setting)
        if runtime.captured:
            fast = captured(fast, example, setting.device)
        clock.synchronizer(setting.device)()
    training.compile_s += perf_counter() - begin
    shape = example[0].shape

    def take_step(images: Tensor, labels: Tensor, weight: float = 1.0) -> None:
        (fast if images.shape == shape else eager)(images, labels, weight)

    return take_step


def _compile(step: Step, example: Batch, setting: Setting) -> None:
    """Take a step for the first time; UserError where Inductor cannot compile for the device."""
    try:
        step(*example)
    except torch._dynamo.exc.TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)  # what Inductor raised, if it was that
        raise UserError(
            f"runtime {setting.runtime} cannot compile for {setting.device}: {said(cause)};"
            " choose another runtime"
        ) from error


def compiled(model: nn.Module, device: str) -> Callable[[Tensor], Tensor]:
    """Return what Inductor makes of the model when it is first called, for one shape."""
    prepare_compiler()
    return torch.compile(model, dynamic=False, options=dict(options(device)))


def parts(
    training: Training,
    recipe: Recipe,
    setting: Setting,
    model: Callable[[Tensor], Tensor],
) -> Parts:
    """Return the parts of a step that calls ``model``, which holds the training's weights."""
    optimizer, scaler, average = training.optimizer, training.scaler, training.average
    device, precision = setting.device, setting.precision
    parameters, one = list(training.model.parameters()), torch.ones((), device=device)
    is_product = RUNTIMES[setting.runtime].products
    convolutions = able_convolutions(training.model) if is_product else []

    def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with numerics.autocast(device, precision), as_products(convolutions):
            logits = model(images)
        smoothing = recipe.label_smoothing
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing), logits

    def backward(loss: Tensor) -> None:
        scaler.scale(loss).backward()

    def update() -> None:
        if recipe.grad_clip:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        scaler.step(optimizer)
        before = scaler.scale(one) if scaler.is_enabled() else None
        scaler.update()
        if before is not None:  # the scale falls after a step that was skipped, and only then
            _count_overflow(training, scaler.scale(one) < before)
        optimizer.zero_grad(set_to_none=True)
        if average:
            ema.follow(average, training.model)

    return Parts(forward, backward, update)


def whole(parts: Parts, training: Training, mark: Mark = no_mark) -> Step:
    """Return the step made of its parts, which counts its loss and hits."""

    def take_step(images: Tensor, labels: Tensor, weight: float = 1.0) -> None:
        with mark("forward"):
            loss, logits = parts.forward(images, labels)
        with mark("backward"):
            parts.backward(loss if weight == 1 else loss * weight)
        with mark("update"):
            parts.update()
            _count(training.totals, loss, logits, labels)

    return take_step


def _count_overflow(training: Training, is_skipped: Tensor) -> None:
    """Count a step that was skipped or not, without waiting for the device."""
    streak, longest = training.overflows[STREAK], training.overflows[LONGEST]
    training.totals[SKIPPED] += is_skipped
    streak.add_(1).mul_(is_skipped)
    torch.maximum(longest, streak, out=longest)


@torch.no_grad()
def _count(totals: Tensor, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Add a batch's loss and hits; an image that is mixed of two counts as the larger part."""
    own = labels if labels.ndim == 1 else labels.argmax(1)
    totals[LOSS] += loss * len(labels)
    totals[HITS] += (logits.argmax(1) == own).sum()


def captured(step: Step, example: Batch, device: str) -> Step:
    """Record a whole step, from the images to the new weights, as one CUDA graph.

    Images and labels are copied to where the graph reads them.
    """
    images_read, labels_read = example[0].clone(), example[1].clone()
    replay = graphs.capture_step(lambda: step(images_read, labels_read), device)

    def take_step(images: Tensor, labels: Tensor, weight: float = 1.0) -> None:
        assert weight == 1, "a recorded step has its weight recorded too"
        images_read.copy_(images)
        labels_read.copy_(labels)
        replay()

    return take_step
