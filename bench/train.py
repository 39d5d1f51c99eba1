"""Train a model: `fit` yields the facts of one epoch after the other.

Nothing here knows of files, screens or data sets. The learning rate is a function of how far the
training is, not the state of a scheduler, and batches are asked for by epoch and step, so a
training continues exactly from `state` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import device as devices
from bench.errors import UserError, unknown
from bench.record import EpochFacts
from bench.spec import Precision, Recipe

Batches = Callable[[int, int], Iterable[tuple[Tensor, Tensor]]]
"""From (epoch, first step) to the batches that are left of that epoch."""

RUNTIMES = ("eager", "channels_last", "compile")


class Diverged(Exception):
    """The loss or the weights are no longer finite."""


@dataclass
class Training:
    """All that changes while a model is trained, hence all that a checkpoint holds.

    ``epoch`` counts the finished epochs and ``step`` the finished steps of the next. Of that epoch
    so far, ``totals`` (2,) holds the summed loss and the hits, on the device, ``num_images`` the
    images seen and ``wall_s`` the seconds spent.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    totals: Tensor
    epoch: int = 0
    step: int = 0
    num_images: int = 0
    wall_s: float = 0.0
    history: list[EpochFacts] = field(default_factory=list)


def check_runtime(runtime: str, device: str) -> None:
    """Raise UserError unless models can be trained in ``runtime`` on ``device``."""
    if runtime not in RUNTIMES:
        raise unknown("training runtime", runtime, RUNTIMES)
    if runtime == "channels_last" and devices.kind(device) == "mps":
        raise UserError("mps computes wrong gradients in channels_last; choose runtime eager")


def memory_format(runtime: str) -> torch.memory_format:
    """Return how images (B, C, H, W) and weights lie in memory."""
    return torch.channels_last if runtime == "channels_last" else torch.contiguous_format


def place(model: nn.Module, device: str, runtime: str) -> nn.Module:
    """Move a model to its device and into the memory format of the runtime."""
    return model.to(device=device, memory_format=memory_format(runtime))  # type: ignore[call-overload]


def start(model: nn.Module, recipe: Recipe, *, device: str, precision: Precision) -> Training:
    """Return a training of ``model``, which lies on ``device`` already, before its first step."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=devices.kind(device) != "mps",  # one kernel for all weights where there is one
    )
    scaler = torch.amp.GradScaler(devices.kind(device), enabled=precision == "fp16")
    return Training(model, optimizer, scaler, totals=torch.zeros(2, device=device))


def fit(
    training: Training,
    batches: Batches,
    recipe: Recipe,
    *,
    num_steps: int,
    device: str,
    precision: Precision = "fp32",
    runtime: str = "eager",
    on_step: Callable[[], None] = lambda: None,
    save_due: Callable[[], bool] = lambda: False,
    save: Callable[[Training], None] = lambda training: None,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[EpochFacts]:
    """Train from where ``training`` stands to the recipe's last epoch, yielding each epoch.

    ``batches(epoch, step)`` gives images (B, C, H, W) and labels (B,) on the device.
    ``on_step`` is called after each step has been given to the device. When ``save_due()``, the
    device is waited for and ``save`` called, its time not counted; what it raises ends the
    training between two steps. Raises `Diverged` when an epoch's mean loss is not finite.
    """
    take_step = step_function(training, device=device, precision=precision, runtime=runtime)
    synchronize = devices.synchronizer(device)
    while training.epoch < recipe.epochs:
        training.model.train()
        synchronize()
        begin = clock() - training.wall_s
        for images, labels in batches(training.epoch, training.step):
            rate = learning_rate(recipe, training.epoch, training.step, num_steps)
            set_learning_rate(training.optimizer, rate)
            take_step(images, labels)
            training.step += 1
            training.num_images += len(labels)
            on_step()
            if save_due():
                synchronize()
                training.wall_s = clock() - begin
                save(training)
                begin = clock() - training.wall_s
        synchronize()
        training.wall_s = clock() - begin
        facts = _close_epoch(training, recipe, num_steps)
        training.history.append(facts)
        yield facts


def _close_epoch(training: Training, recipe: Recipe, num_steps: int) -> EpochFacts:
    """Turn the totals into facts (the epoch's one look at the device) and begin a new epoch."""
    loss_sum, correct = training.totals.tolist()
    epoch, images, wall_s = training.epoch + 1, training.num_images, training.wall_s
    if not math.isfinite(loss_sum):
        raise Diverged(f"the training loss is {loss_sum} in epoch {epoch}")
    training.totals.zero_()
    training.epoch, training.step, training.num_images, training.wall_s = epoch, 0, 0, 0.0
    return EpochFacts(
        epoch=epoch,
        loss=loss_sum / images,
        top1=correct / images,
        lr=learning_rate(recipe, epoch - 1, num_steps - 1, num_steps),
        num_images=images,
        epoch_wall_s=wall_s,
        throughput=images / wall_s if wall_s > 0 else 0.0,
    )


@dataclass(frozen=True)
class Step:
    """One optimiser step in its three parts, so that each can be timed by itself.

    ``forward`` takes images (B, C, H, W) and labels (B,) and returns the loss and the logits
    (B, num_classes), ``backward`` takes that loss, ``update`` changes the weights.
    """

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor], None]
    update: Callable[[], None]


def step_parts(training: Training, *, device: str, precision: Precision, runtime: str) -> Step:
    """Return the parts of an optimiser step of ``training``."""
    optimizer, scaler = training.optimizer, training.scaler
    model = torch.compile(training.model) if runtime == "compile" else training.model

    def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with devices.autocast(device, precision):
            logits = model(images)
        return F.cross_entropy(logits.float(), labels), logits

    def backward(loss: Tensor) -> None:
        scaler.scale(loss).backward()

    def update() -> None:
        scaler.step(optimizer)
        scaler.update()

    return Step(forward, backward, update)


def step_function(
    training: Training, *, device: str, precision: Precision, runtime: str
) -> Callable[[Tensor, Tensor], None]:
    """Return the function that takes one optimiser step on images (B, C, H, W), labels (B,).

    Losses and hits add up on the device, so a step never waits for it.
    """
    step = step_parts(training, device=device, precision=precision, runtime=runtime)
    totals = training.totals

    def take_step(images: Tensor, labels: Tensor) -> None:
        loss, logits = step.forward(images, labels)
        step.backward(loss)
        step.update()
        with torch.no_grad():
            totals[0] += loss * len(labels)
            totals[1] += (logits.argmax(1) == labels).sum()

    return take_step


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
        group["lr"] = rate


def state(training: Training) -> dict[str, Any]:
    """Return all that `restore` needs: tensors, numbers and strings only."""
    return {
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        "totals": training.totals,
        "epoch": training.epoch,
        "step": training.step,
        "num_images": training.num_images,
        "wall_s": training.wall_s,
        "history": [facts.model_dump() for facts in training.history],
    }


def restore(training: Training, saved: dict[str, Any]) -> None:
    """Put a training into a saved `state`."""
    training.model.load_state_dict(saved["model"])
    training.optimizer.load_state_dict(saved["optimizer"])
    training.scaler.load_state_dict(saved["scaler"])
    training.totals.copy_(saved["totals"])
    training.epoch, training.step = saved["epoch"], saved["step"]
    training.num_images, training.wall_s = saved["num_images"], saved["wall_s"]
    training.history = [EpochFacts.model_validate(facts) for facts in saved["history"]]
