"""All that changes while a model is trained, hence all that a checkpoint holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute import ema
from bench.compute.ema import Average
from bench.machine import devices
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.values import Precision

LOSS, HITS, SKIPPED = range(3)
STREAK, LONGEST = range(2)


@dataclass
class Training:
    """A model in training.

    ``epoch`` counts the finished epochs and ``step`` the finished steps of the next. Of that epoch
    so far, ``totals`` (3,) holds on the device the summed loss, the hits and the skipped steps,
    ``num_images`` the images seen (by all processes) and ``wall_s`` the seconds spent;
    ``overflows`` (2,) holds how many steps in a row were skipped up to now, and at most.
    ``compile_s`` and ``val_s`` are the seconds of all epochs for compiling and validation.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    totals: Tensor
    average: Average | None = None
    overflows: Tensor = field(default_factory=lambda: torch.zeros(2))
    epoch: int = 0
    step: int = 0
    num_images: int = 0
    wall_s: float = 0.0
    compile_s: float = 0.0
    val_s: float = 0.0
    history: list[EpochFacts] = field(default_factory=list)

    @property
    def result(self) -> nn.Module:
        """The model that is tested and saved: the average where there is one."""
        return self.average.model if self.average else self.model


def start(
    model: nn.Module,
    recipe: Recipe,
    *,
    device: str,
    precision: Precision,
    captured: bool = False,
) -> Training:
    """Return a training of ``model``, which lies on ``device`` already, before its first step.

    With ``captured`` the learning rate is a tensor on the device, for a recorded step to read.
    """
    rate = torch.tensor(recipe.lr, device=device) if captured else recipe.lr
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        # One kernel for all weights. That for mps takes no scale to undo, which fp16 has.
        fused=not (devices.kind(device) == "mps" and precision == "fp16"),
    )
    if recipe.momentum:
        _start_momentum(optimizer)
    return Training(
        model,
        optimizer,
        scaler=torch.amp.GradScaler(devices.kind(device), enabled=precision == "fp16"),
        totals=torch.zeros(3, device=device),
        average=ema.start(model, device) if recipe.ema_decay else None,
        overflows=torch.zeros(2, device=device),
    )


def _start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begin with a momentum of zero, which gives the same first step as none.

    The fused optimiser would begin with uninitialised memory, and leave it so when fp16 overflows
    in the first step; and a recorded step needs momentum that lies where it will stay.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def state(training: Training) -> dict[str, Any]:
    """Return all that `restore` needs: tensors, numbers and strings only."""
    average = training.average
    return {
        "model": training.model.state_dict(),
        "average": average.model.state_dict() if average else None,
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        "totals": training.totals,
        "overflows": training.overflows,
        "epoch": training.epoch,
        "step": training.step,
        "num_images": training.num_images,
        "wall_s": training.wall_s,
        "compile_s": training.compile_s,
        "val_s": training.val_s,
        "history": [facts.model_dump() for facts in training.history],
    }


def restore(training: Training, saved: dict[str, Any]) -> None:
    """Put a training into a saved `state`."""
    training.model.load_state_dict(saved["model"])
    if training.average:
        training.average.model.load_state_dict(saved["average"])
    _restore_optimizer(training.optimizer, saved["optimizer"])
    training.scaler.load_state_dict(saved["scaler"])
    training.totals.copy_(saved["totals"])
    training.overflows.copy_(saved["overflows"])
    training.epoch, training.step = saved["epoch"], saved["step"]
    training.num_images, training.wall_s = saved["num_images"], saved["wall_s"]
    training.compile_s, training.val_s = saved["compile_s"], saved["val_s"]
    training.history = [EpochFacts.model_validate(facts) for facts in saved["history"]]


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the momenta alone: all else is the recipe's, and the rate may be a tensor in use.

    Raises ValueError for those of other weights.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    fresh = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    own = {(n, "momentum_buffer"): weight.shape for n, weight in enumerate(weights)}
    found = _shapes(saved["state"])
    # An optimizer of torch's own has none before its first step, and none without momentum.
    if found != own and (found or _shapes(fresh["state"])):
        raise ValueError("momenta of other weights")
    optimizer.load_state_dict(fresh | {"state": saved["state"]})
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _shapes(state: dict[int, dict[str, Tensor | None]]) -> dict[tuple[int, str], torch.Size]:
    every = ((n, name, value) for n, per in state.items() for name, value in per.items())
    return {(n, name): value.shape for n, name, value in every if value is not None}


@contextlib.contextmanager
def unchanged(training: Training, device: str) -> Iterator[None]:
    """Let steps be taken inside the block for practice: afterwards all is as it was, in place."""
    tensors = _tensors(training)
    copies, scaler = [tensor.clone() for tensor in tensors], training.scaler.state_dict()
    with torch.random.fork_rng(devices=[device] if devices.kind(device) == "cuda" else []):
        yield
    for tensor, copy in zip(tensors, copies, strict=True):
        tensor.copy_(copy)
    training.scaler.load_state_dict(scaler)
    training.optimizer.zero_grad(set_to_none=True)


def _tensors(training: Training) -> list[Tensor]:
    modules = [training.model, *([training.average.model] if training.average else [])]
    momenta = (momentum for per in training.optimizer.state.values() for momentum in per.values())
    return [
        *(tensor.detach() for module in modules for tensor in module.state_dict().values()),
        *(momentum for momentum in momenta if isinstance(momentum, Tensor)),
        training.totals,
        training.overflows,
    ]
