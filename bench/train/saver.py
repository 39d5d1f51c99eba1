"""Save a training now and then, and continue it: the folder's side of its state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import torch
from torch import Tensor

from bench.compute import distributed, training_state
from bench.compute.distributed import Group
from bench.compute.training_state import Training
from bench.compute.training_step import RUNTIMES
from bench.errors import UserError, first_line
from bench.machine import generators
from bench.record.run import RuntimeTrial
from bench.spec.run import RunSpec
from bench.train import checkpoint

CHECKPOINT_EVERY_S = 60.0
NOT_DIFFERENT = ("data.data_dir", "data.label", "weights", "target_top1")  # the same run with any
# Of the time, for saving and for setting aside: where that takes long, it is done more rarely.
MAX_SHARE = 0.008
NOTE_SHARE = 0.002


class Saver:
    """Saves a training every minute, or as often as takes no more than `MAX_SHARE` of the time.

    Of several processes only the first writes and reads, so that no folder needs to be shared.
    ``facts`` are kept beside the training's state; ``spent_s`` are the seconds that saving took.
    """

    def __init__(self, spec: RunSpec, data_digest: str, folder: Path, group: Group) -> None:
        self.identity = {"run": spec.folder_name(), "data": data_digest}
        self.spec = spec.model_dump(mode="json")
        self.folder, self.group = folder, group
        self.facts: dict[str, Any] = {}
        self.machine: dict[str, Any] = {}
        self.problems: list[str] = []
        self.spent_s, self.last_s, self.saved_at = 0.0, 0.0, monotonic()
        self.best: dict[str, Any] | None = None
        self.good: dict[str, Any] | None = None
        self.noted_at, self.note_s = monotonic(), 0.0

    def load(self) -> dict[str, Any] | None:
        """Return what the newest whole checkpoint holds, if any; note which were damaged.

        Raises UserError, which names the difference, when it is of another training.
        """
        saved, self.problems = distributed.on_first(
            self.group, lambda: checkpoint.load_newest(self.folder, "cpu")
        )
        with self._understood():
            if saved is not None and saved["identity"] != self.identity:
                raise UserError(f"{self.folder} was being trained {self._difference(saved)}")
            if saved is not None:
                _check(saved, self.spec["recipe"]["epochs"])
                self.problems = [*saved.get("problems", []), *self.problems]
        return saved

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Say in one line, as UserError, that a whole checkpoint holds something else."""
        try:
            yield
        except (UserError, torch.OutOfMemoryError):
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.folder} holds a checkpoint that is none of this training"
                f" ({first_line(error)}); --restart begins anew"
            ) from None

    def note_machine(self, saved: dict[str, Any] | None, **machine: Any) -> None:
        """Keep with the training what it computes on, and note what was another when it was saved.

        A checkpoint is exact, but other threads or another release round in another order.
        """
        self.machine = machine
        was = (saved or {}).get("machine", {})
        named = [
            f"{key} {now}, before {was[key]}"
            for key, now in machine.items()
            if key in was and was[key] != now
        ]
        if named:
            self.problems.append(f"continued under other conditions: {'; '.join(named)}")

    def _difference(self, saved: dict[str, Any]) -> str:
        """Say in what a saved training was another than this one."""
        was, now = _flat(saved.get("spec", {})), _flat(self.spec)
        differing = [key for key in now if key in was and was[key] != now[key]]
        differing = [key for key in differing if key not in NOT_DIFFERENT]
        named = [f"{key} {was[key]}, not {now[key]}" for key in differing]
        return f"with {'; '.join(named)}" if named else "on other images"

    def restore(
        self, training: Training, saved: dict[str, Any] | None, num_steps: int | None = None
    ) -> None:
        """Put a training, whose epochs have ``num_steps`` steps, where it was saved."""
        if saved is None:
            return
        with self._understood():
            if num_steps is not None and saved["step"] > num_steps:
                raise ValueError(f"step {saved['step']} of {num_steps}")
            training_state.restore(training, saved)
            device = str(training.totals.device)
            generators.restore(saved["generators"][self.group.rank], device)
        if not self.group.is_first:
            training.totals.zero_()  # they are in the first one's
        if training.step == 0:
            self.note_epoch(training)

    def due(self) -> bool:
        """Say whether a checkpoint should be written after this step."""
        every_s = max(CHECKPOINT_EVERY_S, self.last_s / MAX_SHARE)
        return monotonic() - self.saved_at >= every_s

    def note_epoch(self, training: Training) -> None:
        """Set aside a finite state after an epoch: for a training that diverges, and as the best.

        It is copied, which is quick, and at most `NOTE_SHARE` of the time is spent on it unless it
        is the best on the held-out images so far. The best is written with the next checkpoint: a
        training that is killed before comes by this epoch again.
        """
        begin = perf_counter()
        is_best = _is_best(training)
        is_time = monotonic() - self.noted_at >= self.note_s / NOTE_SHARE
        wanted = distributed.any_of(self.group, is_best or is_time)
        if not wanted or not _is_finite(training):
            return
        content = self._content(training)
        if self.group.is_first:
            self.good = copied(content)
            self.best = self.good if is_best else self.best
        self.noted_at, self.note_s = monotonic(), perf_counter() - begin
        self.spent_s += self.note_s

    def save_good(self) -> None:
        """Write the last good state that was set aside, unless a checkpoint is as new."""
        if self.good is not None:
            checkpoint.save(self.folder, self.good)
            self.good = None

    def save(self, training: Training) -> None:
        """Write a checkpoint now."""
        begin = perf_counter()
        content = self._content(training)
        if self.group.is_first:
            if self.best is not None:
                checkpoint.save(self.folder, self.best, best=True)
                self.best = None
            checkpoint.save(self.folder, content)
            self.good = None
        self.last_s = perf_counter() - begin
        self.spent_s += self.last_s
        self.saved_at = monotonic()

    def _content(self, training: Training) -> dict[str, Any]:
        """Return what a checkpoint holds; all processes of the group have to call this."""
        own = generators.states(str(training.totals.device))
        shared = {
            "identity": self.identity,
            "spec": self.spec,
            "machine": self.machine,
            "problems": list(self.problems),
            "generators": distributed.collect(self.group, own),
        }
        return training_state.state(training) | self.facts | shared


def _check(saved: dict[str, Any], epochs: int) -> None:
    """Raise ValueError, TypeError or LookupError for what no training of so many epochs saved."""
    dict(saved.get("machine", {}))
    problems = saved.get("problems", [])
    if not isinstance(problems, list) or not all(isinstance(told, str) for told in problems):
        raise TypeError("its problems are no texts")
    if saved.get("runtime", "eager") not in RUNTIMES:
        raise ValueError(f"its runtime is {saved['runtime']!r}")
    if saved.get("trial") is not None:
        RuntimeTrial.model_validate(saved["trial"])
    if type(saved["num_images"]) is not int:
        raise TypeError(f"num_images {saved['num_images']!r}")
    for key in ("num_images", "wall_s", "compile_s", "val_s"):
        if not 0 <= saved[key] < math.inf:
            raise ValueError(f"{key} {saved[key]}")
    numbers = [facts["epoch"] for facts in saved["history"]]
    if numbers != [*range(1, saved["epoch"] + 1)]:
        raise ValueError(f"epoch {saved['epoch']} after {numbers[:6]}")
    if saved["epoch"] > epochs:
        raise ValueError(f"epoch {saved['epoch']} of {epochs}")


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a specification by names such as ``recipe.lr``."""
    found: dict[str, Any] = {}
    for key, value in spec.items():
        inner = _flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}.{name}".rstrip("."): item for name, item in inner.items()}
    return found


def _is_finite(training: Training) -> bool:
    """Say whether the weights, which all processes share, are finite; waits for the device."""
    return all(bool(torch.isfinite(weight).all()) for weight in training.model.parameters())


def _is_best(training: Training) -> bool:
    """Say whether no earlier epoch was as good on the held-out images as the last."""
    reached = [facts.val_top1 for facts in training.history if facts.val_top1 is not None]
    return bool(reached) and reached[-1] > max(reached[:-1], default=-1.0)


def copied(value: Any) -> Any:
    """Return a state whose tensors are copies in host memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, copied(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
