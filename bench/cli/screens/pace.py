"""How fast a training goes, how long what is left will take, and what is said of it in words."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.events import Event, Looked, RunStarted
    from bench.record.run import EpochFacts, RunRecord

FORECAST_AFTER_S = 5.0  # of steps; by then their pace is that of the rest
WORTH_A_FORECAST_S = 60.0
LOOK_AT_MEMORY_S = 2.0
SPARKS = 12  # of the last epochs


@dataclass
class Pace:
    """How fast a run goes since it was started: what the time left is told from.

    Not every step need be told; the first that is begins the count, so that what compiling or the
    first step's warm-up took is no part of it.
    """

    run: RunStarted
    began: float = field(default_factory=time.monotonic)
    first: int | None = None
    epoch: int = 1
    step: int = 0
    epochs: list[EpochFacts] = field(default_factory=list)
    is_forecast: bool = False

    def advance(self, epoch: int, step: int) -> None:
        """Note the step of an epoch, both from 1 on, that was taken last."""
        self.epoch, self.step = epoch, step
        if self.first is None:
            self.began, self.first = time.monotonic(), self.done

    @property
    def steps(self) -> int:
        """Return how many steps were counted."""
        return 0 if self.first is None else self.done - self.first

    @property
    def done(self) -> int:
        """Return how many steps of the run are done."""
        return (self.epoch - 1) * self.run.num_steps + self.step

    @property
    def total(self) -> int:
        """Return how many steps the run has."""
        return self.run.spec.recipe.epochs * self.run.num_steps

    @property
    def throughput(self) -> float:
        """Return images a second; 0 where no step was counted yet."""
        images = self.steps * self.run.num_train / self.run.num_steps
        return images / max(1e-9, time.monotonic() - self.began)

    @property
    def left_s(self) -> float | None:
        """Return the seconds that the run will still take; None where that is not known yet."""
        if self.steps == 0:
            return None
        return (self.total - self.done) * (time.monotonic() - self.began) / self.steps

    def forecast(self, count: Count) -> str | None:
        """Return once how long a training that takes a while will take, by its first steps."""
        left = self.left_s
        if self.is_forecast or left is None or time.monotonic() - self.began < FORECAST_AFTER_S:
            return None
        self.is_forecast = True
        if left < WORTH_A_FORECAST_S:
            return None
        suite = count.left(left)
        whole = "" if suite is None else f"; all {count.total} done in about {duration(suite)}"
        return f"  about {duration(left)} here, by the first {self.steps + 1} steps{whole}"


@dataclass
class Count:
    """Which of how many trainings is going on, and for how long; silent where there is but one."""

    total: int | None
    ended: int = 0
    took_s: list[float] = field(default_factory=list)
    began: float | None = None

    def __call__(self) -> str:
        """Return the place of the training that goes on, such as ``[2/5] ``."""
        return f"[{self.ended + 1}/{self.total}] " if self._many else ""

    @property
    def _many(self) -> bool:
        return self.total is not None and self.total > 1

    def more(self, look: Looked) -> None:
        """Count the trainings of a look in; those of the first are what the total was."""
        if look.look > 1 and self.total is not None:
            self.total += look.num_runs

    def begin(self) -> None:
        """Note that a training begins."""
        self.began = time.monotonic()

    def end(self) -> str:
        """Note that a training has ended, or was found finished; return its place."""
        told = self()
        self.ended += 1
        if self.began is not None:
            self.took_s.append(time.monotonic() - self.began)
            self.began = None
        return told

    def left(self, run_s: float | None) -> float | None:
        """Return the seconds left for all, ``run_s`` of them for this one; None if not known.

        Those that have not begun are taken to be as long as those that have, on average.
        """
        if not self._many or self.total is None or run_s is None or self.began is None:
            return None
        this = time.monotonic() - self.began + run_s
        average = sum([*self.took_s, this]) / (len(self.took_s) + 1)
        return run_s + max(0, self.total - self.ended - 1) * average


@dataclass
class Memory:
    """The resident memory of this process and of those it started, looked at now and then."""

    at: float = 0.0
    bytes: int | None = None

    def now(self) -> int | None:
        """Return it in bytes; None where the system does not tell."""
        from bench.execute.launch.follow import tree_memory

        if time.monotonic() - self.at > LOOK_AT_MEMORY_S:
            self.at, self.bytes = time.monotonic(), tree_memory(os.getpid())
        return self.bytes


def headline(run: RunStarted) -> str:
    """Return what begins, in a line."""
    spec = run.spec
    again = f", going on after epoch {run.epochs_done}" if run.epochs_done else ""
    epochs = "epoch" if spec.recipe.epochs == 1 else "epochs"
    processes = f" × {spec.world_size} processes" if spec.world_size > 1 else ""
    engine = ", plain loop" if spec.engine == "plain" else ""
    return (
        f"{spec.model.title}, {run.params:,} parameters, on"
        f" {run.num_train:,} images of {spec.data.label or spec.data.name}:"
        f" recipe {spec.recipe.name}, {spec.recipe.epochs} {epochs}, seed {spec.seed},"
        f" {spec.device}{processes}, {spec.precision}, {spec.runtime}{engine}{again}"
    )


def epoch_parts(facts: EpochFacts, pace: Pace) -> list[str]:
    """Return what is told of an epoch, part by part."""
    epochs = pace.run.spec.recipe.epochs
    parts = [
        f"epoch {facts.epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {facts.loss:.4f}",
        f"train top-1 {100 * facts.top1:6.2f} %",
    ]
    if facts.val_top1 is not None:
        parts.append(f"val {100 * facts.val_top1:6.2f} %")
    parts += [f"lr {facts.lr:.5f}", f"{facts.throughput:,.0f} img/s", f"{facts.epoch_wall_s:.1f} s"]
    if facts.epoch < epochs:
        parts.append(f"{duration(pace.left_s)} left")
    return parts


def other(event: Event) -> str | None:
    """Return what is told of an event that needs no more than itself; None for nothing."""
    from bench import events as ev

    match event:
        case ev.Preparing(what, done, total) if done >= total > 0:
            return f"{what}: {total:,} done"
        case ev.Preparing(what, 0, 0):
            return what
        case ev.RunDone(record, folder, reused):
            warnings = "".join(f"\n  warning: {warning}" for warning in record.warnings)
            found = " (found finished, its images unchanged)" if reused else ""
            return f"  {result(record)}{found}  {folder}{warnings}"
        case ev.Warned():
            return f"warning: {event.warning}"
        case ev.Looked(look, num_seeds, num_open, num_runs):
            pairs = f"{num_open} difference{'' if num_open == 1 else 's'} open"
            return f"look {look}: {pairs}; {num_runs} trainings, to {num_seeds} seeds a model"
        case ev.JobFailed():
            return f"  {event.name}: failed: {event.reason}  {event.record}"
        case _:
            return None


def result(record: RunRecord) -> str:
    """Return what a run came to, in a line."""
    if record.test is None:
        return f"{record.spec.model.name}: {record.status}: {record.reason}"
    top5 = "" if record.test.top5 is None else f", top-5 {100 * record.test.top5:.2f} %"
    return (
        f"{record.spec.model.name}: test top-1 {100 * record.test.top1:.2f} %{top5}"
        f" ({record.test.top1_correct:,} of {record.test.num_images:,})"
    )


def duration(seconds: float | None) -> str:
    """Return seconds as 45 s, 3:07 min or 2:05 h."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def size(num_bytes: int) -> str:
    """Return bytes as 812 MiB or 1.2 GiB."""
    gib = num_bytes / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{num_bytes / 2**20:.0f} MiB"
