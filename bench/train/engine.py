"""Join data, training and saving: the two engines that carry out the training of a run."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from torch import nn

from bench import data
from bench.compute import distributed
from bench.compute.distributed import Group
from bench.compute.training_state import Training
from bench.compute.training_step import Batch, Setting, memory_format, place
from bench.errors import UserError, said
from bench.events import EpochDone, Event, Preparing, StepDone
from bench.machine import device_memory, devices, generators, noise, numerics
from bench.record.run import EpochFacts, RuntimeTrial
from bench.signals import Preempted, stop_requests
from bench.spec.run import RunSpec
from bench.train import choose_runtime as trial
from bench.train import loop, plain_loop
from bench.train.predict import keeps_freed
from bench.train.saver import Saver
from bench.train.tracing import NO_TRACE, Trace

Validate = Callable[[nn.Module], float]
GO_ON = "--resume goes on"
ASK_EVERY = 16  # steps of a GPU: a second or two


@dataclass(frozen=True)
class Job:
    """A run as this process carries it out.

    ``spec`` names this process' device and the runtime that was chosen; ``images`` are those to
    train on, of ``num_classes`` classes.
    """

    spec: RunSpec
    images: data.Split
    normalization: data.Normalization
    num_classes: int
    group: Group
    saver: Saver
    emit: Callable[[Event], None]
    validate: Validate | None = None
    trace: Trace = NO_TRACE

    @property
    def num_steps(self) -> int:
        """The steps of an epoch."""
        return loop.count_steps(len(self.images), self.spec.recipe, self.group.world_size)

    @property
    def setting(self) -> Setting:
        spec = self.spec
        return Setting(spec.device, spec.precision, spec.runtime, self.group, self.trace.mark)

    def work(self, model: nn.Module) -> trial.Work:
        """Return what this process does in a step."""
        spec = self.spec
        return trial.Work(
            model,
            spec.recipe,
            batch_size=spec.recipe.batch_size // self.group.world_size,
            image_size=self.images.images.shape[-1],
            num_classes=self.num_classes,
            device=spec.device,
            precision=spec.precision,
        )


def choose_runtime(job: Job, model: nn.Module) -> tuple[Job, RuntimeTrial]:
    """Return the job with the fastest runtime in place of ``auto``, and what was measured."""
    num_steps = job.spec.recipe.epochs * job.num_steps

    def on_try(runtime: str) -> None:
        job.emit(Preparing(f"trying runtime {runtime}", 0, 0))

    runtime, found = distributed.on_first(
        job.group,
        lambda: trial.choose(job.work(model), num_steps, job.group.world_size, on_try),
    )
    return with_runtime(job, runtime), found


def with_runtime(job: Job, runtime: str) -> Job:
    """Return the job in another runtime."""
    return replace(job, spec=job.spec.model_copy(update={"runtime": runtime}))


def start(job: Job, model: nn.Module) -> Training:
    """Return the training of a model before its first step; the model is put on the device.

    What the model itself draws, for dropout say, follows from the seed and the process' rank.
    """
    generators.seed(job.spec.seed * job.group.world_size + job.group.rank)
    placed = place(model, job.spec.device, job.spec.runtime)
    if job.spec.engine == "plain":
        return plain_loop.start(placed, job.spec.recipe, job.spec.device)
    return trial.start(placed, job.spec.recipe, job.setting)


def check_gradients(job: Job, model: nn.Module) -> None:
    """Raise UserError where mps computes other gradients than the CPU, before it trains by them.

    Some versions of torch have such faults, in BatchNorm's for one: the loss falls all the same.
    """
    if devices.kind(job.spec.device) != "mps":
        return
    problem = trial.gradient_problem(job.work(model), job.spec.runtime)
    if problem:
        raise UserError(
            f"{job.spec.model.name} would be trained wrongly on {job.spec.device} by this torch:"
            f" {problem}; choose --device cpu, or another version of torch"
        )


@contextlib.contextmanager
def computing(spec: RunSpec) -> Iterator[None]:
    """Set torch and memory as a run trains inside the block: the plain loop as people have it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics.computing_in(spec.device, spec.precision))
        stack.enter_context(numerics.fixed_shapes(spec.device, deterministic=spec.deterministic))
        if spec.engine == "plain":
            stack.enter_context(numerics.as_torch_comes())
        stack.enter_context(device_memory.keeping_freed(spec.device, wanted=keeps_freed(spec)))
        yield


def fit(job: Job, training: Training) -> str | None:
    """Train to the end; return None, or why there is nothing to test.

    Raises UserError with the batch size that fits when the device has not enough memory: another
    batch size is another recipe, so it is never changed unasked. A device that fails is said too.
    """
    try:
        _train(job, training)
        loop.check_finite(training, job.group)  # the last step may have been the one that ruins
    except loop.Diverged as problem:
        job.saver.save_good()
        return str(problem)
    except (RuntimeError, MemoryError) as error:
        if device_memory.is_lost(error):
            told = f"{job.spec.device} failed: {said(error)}; --resume goes on"
            raise UserError(told) from error
        if operator := numerics.no_deterministic(error):
            raise UserError(
                f"{operator} has no deterministic algorithm on {job.spec.device}; train"
                f" {job.spec.model.name} without --deterministic"
            ) from error
        if not device_memory.is_out_of_memory(error):
            raise
    else:
        job.saver.save(training)
        return None
    gc.collect()  # of what the failed step still holds
    raise _out_of_memory(job, training)


def _out_of_memory(job: Job, training: Training) -> UserError:
    batch_size = job.spec.recipe.batch_size
    said = f"{job.spec.device} has not enough memory to train with batch size {batch_size}"
    fitting = trial.fitting_batch_size(training, job.work(training.model), job.setting)
    if fitting is None:
        return UserError(f"{said}, nor with any smaller one; choose a smaller model or image size")
    together = fitting * job.group.world_size
    return UserError(
        f"{said}; {together} fits: --batch-size {together} (another recipe: scale --lr)"
    )


def _train(job: Job, training: Training) -> None:
    """Take all steps; after each, and after each epoch, do what has to be done then."""
    is_plain = job.spec.engine == "plain"
    watch, times = loop.Stopwatch(training, job.spec.device), noise.StepTimes()
    with stop_requests() as stop_requested:
        for facts in _plain_steps(job, training) if is_plain else _steps(job, training, watch):
            if facts is None:
                times.step()
                job.trace.on_step()
                job.emit(StepDone(training.epoch + 1, training.step))
                if is_plain:
                    _stop_plain(job, training, stop_requested())
                # Of several processes all save, or none: a signal may have reached only one.
                elif _asks(job, training) and distributed.any_of(
                    job.group, job.saver.due() or stop_requested() is not None
                ):
                    _note_contention(job, times)
                    with watch.paused():
                        _save(job, training, stop_requested())
                    times.pause()
                continue
            times.pause()
            _note_contention(job, times)
            training.history.append(_validated(job, training, facts))
            if is_plain:
                loop.check_finite(training, job.group)
                job.saver.save(training)
            job.saver.note_epoch(training)
            job.emit(EpochDone(training.history[-1]))


def _asks(job: Job, training: Training) -> bool:
    """Say whether to ask the other processes after this step if anything is to be saved.

    To ask waits for all of them on the host. Steps of a GPU are short and queued ahead, which
    that would end: there it is every `ASK_EVERY` steps and after the last of an epoch.
    """
    is_often = job.group.is_alone or devices.kind(job.spec.device) == "cpu"
    return is_often or training.step % ASK_EVERY == 0 or training.step == job.num_steps


def _note_contention(job: Job, times: noise.StepTimes) -> None:
    """Keep with the training, once, that its steps were slowed down by others.

    On an accelerator steps are queued: the time from one to the next tells nothing.
    """
    warning = times.warning() if job.spec.device == "cpu" else None
    if warning is not None:
        others = [text for text in job.saver.problems if not text.startswith(noise.CONTENDED)]
        job.saver.problems = [*others, warning]


def _steps(job: Job, training: Training, watch: loop.Stopwatch) -> Iterator[EpochFacts | None]:
    """Yield the steps of the fast engine: the images lie on the device, whole."""
    spec, recipe, group = job.spec, job.spec.recipe, job.group
    split = data.place(job.images, spec.device, recipe.crop_padding, memory_format(spec.runtime))
    job.saver.problems.extend([split.warning] if split.warning else [])

    def batches(epoch: int, step: int) -> Iterator[Batch]:
        plan = data.plan_epoch(len(split), recipe, spec.seed, epoch)
        return data.train_batches(
            split,
            plan,
            recipe,
            job.normalization,
            step,
            num_classes=job.num_classes,
            rank=group.rank,
            world_size=group.world_size,
        )

    yield from loop.train(
        training, batches, recipe, job.setting, num_images=len(split), watch=watch
    )


def _plain_steps(job: Job, training: Training) -> Iterator[EpochFacts | None]:
    """Yield the steps of the loop that people write."""
    spec = job.spec
    yield from plain_loop.train(
        training,
        job.images,
        spec.recipe,
        job.normalization,
        seed=spec.seed,
        device=spec.device,
    )


def _validated(job: Job, training: Training, facts: EpochFacts) -> EpochFacts:
    """Return the facts with the top-1 on the held-out images, if there are any."""
    if job.validate is None:
        return facts
    begin = perf_counter()
    top1 = job.validate(training.result)
    training.val_s += perf_counter() - begin
    return facts.model_copy(update={"val_top1": top1})


def _save(job: Job, training: Training, signal: str | None) -> None:
    """Save, and raise `Preempted` if any process of the group was asked to stop."""
    loop.check_finite(training, job.group)
    job.saver.save(training)
    signals = [name for name in distributed.collect(job.group, signal) if name]
    if signals:
        raise Preempted(f"{signals[0]}: stopped in {_place(job, training)} and saved; {GO_ON}")


def _stop_plain(job: Job, training: Training, signal: str | None) -> None:
    """Raise `Preempted` if asked to: the plain loop saves whole epochs only."""
    if signal is None:
        return
    saved = f"saved after epoch {training.epoch}; {GO_ON} there"
    kept = saved if training.epoch else "too early to be saved"
    raise Preempted(f"{signal}: stopped in {_place(job, training)}, {kept}")


def _place(job: Job, training: Training) -> str:
    return f"epoch {training.epoch + 1}, step {training.step} of {job.num_steps}"
