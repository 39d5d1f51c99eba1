"""What happens while a run goes on, as plain data; screens and logs are made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.record.profile import ProfileRecord
from bench.record.run import EpochFacts, RunRecord
from bench.signals import EXIT_PREEMPTED
from bench.spec.run import RunSpec


@dataclass(frozen=True)
class Preparing:
    """Some preparation has done ``done`` of ``total`` (0: unknown) units of ``what``."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on after ``epochs_done`` epochs."""

    spec: RunSpec
    params: int
    num_train: int
    num_steps: int
    epochs_done: int


@dataclass(frozen=True)
class StepDone:
    """``step`` of the epoch's steps are given to the device; ``epoch`` counts from 1."""

    epoch: int
    step: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is trained."""

    facts: EpochFacts


@dataclass(frozen=True)
class Evaluating:
    """The test set is being classified: ``done`` of ``total`` images."""

    done: int
    total: int


@dataclass(frozen=True)
class RunDone:
    """A run has its record in ``folder``; ``reused`` if it was there before."""

    record: RunRecord
    folder: str
    reused: bool


@dataclass(frozen=True)
class Profiling:
    """A profile is at ``stage`` of ``row``, with ``fraction`` of the rows that take turns done.

    They are number ``group`` of ``num_groups``.
    """

    stage: str
    row: str
    fraction: float
    group: int = 0
    num_groups: int = 1

    @property
    def done(self) -> float:
        """Return the share of the whole profile."""
        return min(1.0, (self.group + self.fraction) / max(1, self.num_groups))


@dataclass(frozen=True)
class RowDone:
    """A row of a profile has its record, which is a file by now."""

    record: ProfileRecord


@dataclass(frozen=True)
class Warned:
    """Something is not as it should be and the work goes on."""

    warning: str


@dataclass(frozen=True)
class JobFailed:
    """A run or a sitting of an experiment failed; ``record`` is the file that says more."""

    name: str
    reason: str
    record: str


@dataclass(frozen=True)
class Looked:
    """A look with ``num_seeds`` a model is to follow ``num_runs`` trainings: so much is open."""

    look: int
    num_seeds: int
    num_open: int
    num_runs: int


@dataclass(frozen=True)
class JobBegan:
    """A job was taken up by a process on ``host``, at ``at`` seconds since 1970."""

    host: str
    pid: int
    at: float


@dataclass(frozen=True)
class JobEnded:
    """A job's process has ended; ``code`` and ``reason`` are `bench.execute.process.Ended`'s."""

    code: int | None
    reason: str | None
    wall_s: float
    last_lines: tuple[str, ...] = ()

    @property
    def is_preempted(self) -> bool:
        """Tell whether it saved and ended because it was asked to."""
        return self.code == EXIT_PREEMPTED


Event = (
    Preparing
    | RunStarted
    | StepDone
    | EpochDone
    | Evaluating
    | RunDone
    | Profiling
    | RowDone
    | Warned
    | JobFailed
    | Looked
    | JobBegan
    | JobEnded
)


@dataclass(frozen=True)
class JobNews:
    """An event of one of several jobs that are done at the same time."""

    name: str
    event: Event


Emit = Callable[[Event], None]
# Whoever shows a suite is told whose event it is.
EmitNews = Callable[[Event | JobNews], None]
