"""Train a model: `train` yields after each step, and the facts of each epoch.

Nothing here knows of files, screens or data sets. The learning rate is a function of how far the
training is, not the state of a scheduler, and batches are asked for by epoch and step, so a
training continues exactly from its `bench.compute.training_state` alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor

from bench.compute import distributed, ema
from bench.compute.distributed import Group
from bench.compute.training_state import LONGEST, Training
from bench.compute.training_step import RUNTIMES, Batch, Mark, Setting, ready_step
from bench.machine.clock import synchronizer
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe

Batches = Callable[[int, int], Iterable[Batch]]
"""From (epoch, first step) to the batches that are left of that epoch."""
FEWEST_IMAGES = 2  # of a process in a step: BatchNorm has no variance of a single image
MAX_OVERFLOWS = 50  # in a row; a loss scale that may be halved so often was not the problem
CHECK_OVERFLOWS_EVERY = 100  # steps: to look waits for the device


class Diverged(Exception):
    """The loss or the weights are no longer finite."""


def count_steps(num_images: int, recipe: Recipe, world_size: int = 1) -> int:
    """Return the steps of an epoch, a last batch that is too small left out (see `Recipe`)."""
    whole, rest = divmod(num_images, recipe.batch_size)
    return whole + (rest >= FEWEST_IMAGES * world_size and not recipe.drop_last)


class Stopwatch:
    """The seconds of an epoch's steps alone, which are part of the training's state.

    It waits for the device at both ends, never in between: steps are queued on an accelerator, and
    a wait after each would be timed with it and would take from the next its head start.
    """

    def __init__(
        self, training: Training, device: str, now: Callable[[], float] = perf_counter
    ) -> None:
        self.training, self.now = training, now
        self.synchronize = synchronizer(device)
        self.began = 0.0

    def start(self) -> None:
        """Go on from the seconds that the epoch has taken so far."""
        self.synchronize()
        self.began = self.now() - self.training.wall_s

    def stop(self) -> None:
        """Note the seconds that the epoch has taken."""
        self.synchronize()
        self.training.wall_s = self.now() - self.began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let what is done inside the block, such as saving, be no part of the time."""
        self.stop()
        yield
        self.start()


def train(
    training: Training,
    batches: Batches,
    recipe: Recipe,
    setting: Setting,
    *,
    num_images: int,
    watch: Stopwatch,
) -> Iterator[EpochFacts | None]:
    """Train from where ``training`` stands to the recipe's last epoch.

    Yields None after each step has been given to the device, and an epoch's facts after its last:
    whoever draws from it saves, stops, traces and validates there, pausing the ``watch`` for what
    is not training. ``batches(epoch, step)`` gives this process' share of each batch of an epoch
    over ``num_images`` images, on the device. Compiling is not in an epoch's time. Raises
    `Diverged` when an epoch's mean loss is not finite, and when fp16 gradients overflow without
    end.
    """
    num_steps = count_steps(num_images, recipe, setting.group.world_size)
    training.model.train()
    take_step = ready_step(training, recipe, setting, _example(training, batches, setting))
    while training.epoch < recipe.epochs:
        training.model.train()
        watch.start()
        # A restored training may stand behind the last step, where nothing is left to draw.
        left = islice(batches(training.epoch, training.step), num_steps - training.step)
        for images, labels in _drawn(left, setting.mark):
            together = images_together(num_images, recipe, training.step)
            _set_rates(training, recipe, num_steps)
            take_step(images, labels, len(labels) * setting.group.world_size / together)
            training.step += 1
            training.num_images += together
            if training.scaler.is_enabled() and training.step % CHECK_OVERFLOWS_EVERY == 0:
                _check_overflows(training)
            yield None
        watch.stop()
        training.wall_s = distributed.largest(setting.group, training.wall_s)
        yield _close_epoch(training, recipe, setting.group, num_steps)


def _example(training: Training, batches: Batches, setting: Setting) -> Batch | None:
    """Return a whole batch for a runtime that is made for one shape; drawing it changes nothing."""
    runtime = RUNTIMES[setting.runtime]
    if not (runtime.compiled or runtime.captured):
        return None
    return next(iter(batches(training.epoch, 0)))


def _drawn(batches: Iterable[Batch], mark: Mark) -> Iterator[Batch]:
    drawing = iter(batches)
    while True:
        with mark("data"):
            batch = next(drawing, None)
        if batch is None:
            return
        yield batch


def images_together(num_images: int, recipe: Recipe, step: int) -> int:
    """Return how many images all processes together see in a step."""
    return min(recipe.batch_size, num_images - step * recipe.batch_size)


def check_finite(training: Training, group: Group) -> None:
    """Raise `Diverged` rather than let a bad state take the place of a good one that was saved.

    What the processes counted is added up on the first, whose state is the one that is saved.
    """
    distributed.add_up(group, training.totals)
    tensors = (training.totals, *training.model.parameters())
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        epoch = training.epoch + (training.step > 0)
        raise Diverged(f"loss or weights are not finite in epoch {epoch}")
    if not group.is_first:
        training.totals.zero_()


def _check_overflows(training: Training) -> int:
    """Return the most steps in a row that overflowed in this epoch; `Diverged` for too many."""
    longest = round(float(training.overflows[LONGEST]))
    if longest >= MAX_OVERFLOWS:
        raise Diverged(
            f"fp16 gradients overflowed in {longest} steps in a row in epoch {training.epoch + 1}"
        )
    return longest


def _close_epoch(training: Training, recipe: Recipe, group: Group, num_steps: int) -> EpochFacts:
    """Turn the totals into facts (the epoch's one look at the device) and begin a new epoch."""
    loss_sum, correct, skipped = distributed.add_up(group, training.totals).tolist()
    epoch, images, wall_s = training.epoch + 1, training.num_images, training.wall_s
    if not math.isfinite(loss_sum):
        raise Diverged(f"the training loss is {loss_sum} in epoch {epoch}")
    longest = _check_overflows(training)
    _share_statistics(training, group)
    training.totals.zero_()
    training.overflows[LONGEST] = 0
    training.epoch, training.step, training.num_images, training.wall_s = epoch, 0, 0, 0.0
    return EpochFacts(
        epoch=epoch,
        loss=loss_sum / images,
        top1=correct / images,
        lr=learning_rate(recipe, epoch - 1, num_steps - 1, num_steps),
        num_images=images,
        epoch_wall_s=wall_s,
        throughput=images / wall_s if wall_s > 0 else 0.0,
        skipped_steps=round(skipped / group.world_size),
        overflow_streak=longest,
    )


def _share_statistics(training: Training, group: Group) -> None:
    """Give every process the first one's BatchNorm statistics, as a checkpoint holds them."""
    modules = dict.fromkeys((training.model, training.result))  # the same order everywhere
    distributed.copy_from_first(group, [buffer for m in modules for buffer in m.buffers()])


def _set_rates(training: Training, recipe: Recipe, num_steps: int) -> None:
    """Set what changes from step to step: the learning rate, and how closely the average follows.

    Neither waits for the device when it is a number there.
    """
    set_learning_rate(
        training.optimizer, learning_rate(recipe, training.epoch, training.step, num_steps)
    )
    if training.average:
        steps_done = training.epoch * num_steps + training.step
        ema.set_gain(training.average, recipe.ema_decay, steps_done)


def learning_rate(recipe: Recipe, epoch: int, step: int, num_steps: int) -> float:
    """Return the rate for a step; ``epoch`` and ``step`` count from 0.

    Warm-up rises linearly to ``lr`` over ``lr_warmup_epochs`` (Goyal et al. 2017, section 2.2);
    ``multistep`` multiplies by gamma from each milestone on; ``cosine`` falls to zero without
    restarts (Loshchilov and Hutter 2017, equation 5).
    """
    steps_done, warmup = epoch * num_steps + step, recipe.lr_warmup_epochs * num_steps
    if steps_done < warmup:
        return recipe.lr * (steps_done + 1) / (warmup + 1)
    if recipe.schedule == "multistep":
        return recipe.lr * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)
    left = (steps_done - warmup) / max(1.0, recipe.epochs * num_steps - warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * left))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all weights."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
