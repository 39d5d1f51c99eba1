"""Try things out before a training: which runtime is fastest, which batch fits into memory.

Runtimes are tried on copies of the model with images of noise, so that nothing of the training
changes: neither its weights nor any random number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor, nn

from bench.compute import parity, training_state, training_step
from bench.compute.training_state import Training
from bench.compute.training_step import RUNTIMES, Batch, Setting
from bench.errors import UserError
from bench.machine import clock, device_memory, devices
from bench.record.run import RuntimeTrial
from bench.spec.recipe import Recipe
from bench.spec.values import Precision

CANDIDATES: dict[str, tuple[str, ...]] = {
    "cpu": ("channels_last_matmul", "eager", "compile_channels_last_matmul"),
    "cuda": (
        "cudagraph_channels_last",
        "cudagraph",
        "channels_last",
        "compile_channels_last",
        "compile_cudagraph",
    ),
    "mps": ("eager",),
}
"""What `auto` tries, by kind of device; the first is taken where a run is too short to try."""
WARMUP_STEPS, TIMED_STEPS = 1, 3
TRIAL_SHARE = 0.05  # of a run's steps, which trying the runtimes that need no compiler may take
COMPILE_S = {"cpu": 0.7, "cuda": 0.5, "mps": 0.5}  # roughly, for each layer with weights
EXPECTED_GAIN = {"cpu": 0.2, "cuda": 0.3, "mps": 0.2}  # of a run's time, by compiling: roughly
FROM_CACHE = 0.3  # of the seconds of compiling, for what Inductor's cache holds: it is traced anew


@dataclass(frozen=True)
class Work:
    """What one process does in a step: the model, the shapes, where and how exactly."""

    model: nn.Module
    recipe: Recipe
    batch_size: int
    image_size: int
    num_classes: int
    device: str
    precision: Precision


def choose(
    work: Work,
    num_steps: int,
    world_size: int = 1,
    on_try: Callable[[str], None] = lambda runtime: None,
) -> tuple[str, RuntimeTrial]:
    """Return the runtime in which ``num_steps`` steps should end first, and what was measured.

    What trying would cost more than it can save is left out, with the reason.
    """
    names = CANDIDATES[devices.kind(work.device)]
    left_out = {
        n: p for n in names if (p := training_step.runtime_problem(n, work.device, world_size))
    }
    able = [name for name in names if name not in left_out]
    uncompiled = [name for name in able if not RUNTIMES[name].compiled]
    if len(able) == 1 or _is_too_short(len(uncompiled), num_steps):
        reason = f"a run of {num_steps} steps is too short to try it"
        return able[0], RuntimeTrial(left_out=left_out | dict.fromkeys(able[1:], reason))
    step_s: dict[str, float] = {}
    total_s: dict[str, float] = {}
    for name in sorted(able, key=lambda name: RUNTIMES[name].compiled):
        problem = _not_worth_compiling(work, name, num_steps, step_s)
        if problem is None:
            on_try(name)
            problem, step_s[name], setup_s = _tried(work, name)
            # What the trial took is spent, whichever is chosen; the training finds code there.
            again = _compiling_again() if RUNTIMES[name].compiled else 1.0
            total_s[name] = num_steps * step_s[name] + again * setup_s
        if problem is not None:
            left_out[name] = problem
    best = min(total_s, key=lambda name: total_s[name], default=able[0])
    rates = {name: work.batch_size / s for name, s in step_s.items() if s < float("inf")}
    return best, RuntimeTrial(throughput=rates, left_out=left_out)


def _is_too_short(num_candidates: int, num_steps: int) -> bool:
    return num_candidates * (WARMUP_STEPS + TIMED_STEPS) > TRIAL_SHARE * num_steps


def _not_worth_compiling(
    work: Work, name: str, num_steps: int, step_s: dict[str, float]
) -> str | None:
    """Return why compiling should cost more than it saves, or None."""
    if not RUNTIMES[name].compiled or not step_s:
        return None
    layers = sum(1 for module in work.model.modules() if list(module.parameters(recurse=False)))
    compile_s = layers * COMPILE_S[devices.kind(work.device)]
    run_s = num_steps * min(step_s.values())
    gain_s = EXPECTED_GAIN[devices.kind(work.device)] * run_s
    if gain_s > (1 + _compiling_again()) * compile_s:  # to try it, and to train
        return None
    return f"compiling takes about {compile_s:.0f} s and the whole run about {run_s:.0f} s"


def _compiling_again() -> float:
    """Return the share of its seconds that compiling takes when it was compiled just before."""
    from torch._inductor import config

    return 1.0 if config.force_disable_caches or not config.fx_graph_cache else FROM_CACHE


def _tried(work: Work, runtime: str) -> tuple[str | None, float, float]:
    """Return why a runtime failed, seconds a step (infinity then), seconds to get ready."""
    problem, times = None, (float("inf"), 0.0)
    try:
        with torch.random.fork_rng(devices=[]):
            times = _measure(work, runtime)
    except (
        RuntimeError,
        UserError,
    ) as error:  # no compiler, no memory: the other candidates remain
        lines = str(error).strip().splitlines()
        problem = lines[0] if lines else type(error).__name__
    device_memory.release_memory(work.device)
    return problem, *times


def _measure(work: Work, runtime: str) -> tuple[float, float]:
    """Return the seconds of a step, and those of getting ready for the first."""
    setting = Setting(work.device, work.precision, runtime)
    synchronize = clock.synchronizer(work.device)
    begin = perf_counter()
    model = training_step.place(copy.deepcopy(work.model), work.device, runtime).train()
    training = start(model, work.recipe, setting)
    batch = example(work, runtime)
    take_step = training_step.ready_step(training, work.recipe, setting, batch)
    for _ in range(WARMUP_STEPS):
        take_step(*batch)
    synchronize()
    ready = perf_counter()
    for _ in range(TIMED_STEPS):
        take_step(*batch)
    synchronize()
    return (perf_counter() - ready) / TIMED_STEPS, ready - begin


def start(model: nn.Module, recipe: Recipe, setting: Setting) -> Training:
    """Return a training whose optimiser suits the setting's runtime."""
    captured = RUNTIMES[setting.runtime].captured
    return training_state.start(
        model, recipe, device=setting.device, precision=setting.precision, captured=captured
    )


def example(work: Work, runtime: str) -> Batch:
    """Return a batch of noise as the runtime takes it; with Mixup the targets are shares."""
    random, size = torch.Generator().manual_seed(0), work.image_size
    images = torch.randn(work.batch_size, 3, size, size, generator=random)
    images = images.contiguous(memory_format=training_step.memory_format(runtime))
    labels = torch.randint(work.num_classes, (work.batch_size,), generator=random)
    if work.recipe.mixup_alpha:
        labels = nn.functional.one_hot(labels, work.num_classes).to(torch.float32)
    return images.to(work.device), labels.to(work.device)


def gradient_problem(work: Work, runtime: str) -> str | None:
    """Return how the gradients of a first step differ from eager fp32's on the CPU, or None.

    What draws random numbers, such as dropout, is left out: no two devices draw the same.
    """
    few = replace(work, batch_size=min(work.batch_size, parity.NUM_IMAGES))
    expected = _gradient(replace(few, device="cpu", precision="fp32"), "eager")
    return parity.problem(
        parity.compare_gradients(_gradient(few, runtime), expected, work.precision)
    )


def _gradient(work: Work, runtime: str) -> Tensor:
    model = training_step.place(copy.deepcopy(work.model), work.device, runtime).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    setting = Setting(work.device, work.precision, runtime)
    training = start(model, work.recipe, setting)
    is_compiled = RUNTIMES[runtime].compiled
    forward = training_step.compiled(model, work.device) if is_compiled else model
    loss, _ = training_step.parts(training, work.recipe, setting, forward).forward(
        *example(work, runtime)
    )
    loss.backward()
    return parity.gradient(model)


def fitting_batch_size(training: Training, work: Work, setting: Setting) -> int | None:
    """Return the largest of 1/2, 1/4 … of the batch that a step has the memory for, or None.

    The training must have failed: its weights are used up.
    """
    layout = training_step.memory_format(setting.runtime)
    uncaptured = "channels_last" if layout == torch.channels_last else "eager"
    setting = replace(setting, runtime=uncaptured)
    size = work.batch_size // 2
    while size > 1:
        if _fits(training, replace(work, batch_size=size), setting):
            return size
        size //= 2
    return None


def _fits(training: Training, work: Work, setting: Setting) -> bool:
    training.optimizer.zero_grad(set_to_none=True)
    device_memory.release_memory(work.device)
    try:
        parts = training_step.parts(training, work.recipe, setting, training.model)
        training_step.whole(parts, training)(*example(work, setting.runtime))
        clock.synchronizer(work.device)()
    except (RuntimeError, MemoryError) as error:
        if not device_memory.is_out_of_memory(error):
            raise
        return False
    return True
