"""How far every job of a folder is, by what was written there as it went on."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.events import (
    EpochDone,
    Evaluating,
    Event,
    JobBegan,
    JobEnded,
    Profiling,
    RunDone,
    RunStarted,
    StepDone,
)
from bench.execute.launch.journal import EVENTS, Tail
from bench.execute.launch.node import LAUNCHED, read_assignment

WAITING, RUNNING, GONE = "waiting", "running", "gone"


@dataclass(frozen=True)
class Standing:
    """How far a job is: a word, a share of the whole, what it does, and when it last said so.

    ``top1`` (validation, where there is one, else training) and ``img_per_s`` are those of its
    epochs; ``left_s`` and ``memory`` (bytes, of its process and those it started) are known of one
    that runs, and memory only on its own machine.
    """

    name: str
    state: str
    share: float
    what: str
    silent_s: float
    host: str = ""
    top1: Sequence[float] = ()
    img_per_s: Sequence[float] = ()
    left_s: float | None = None
    memory: int | None = None


@dataclass
class Followed:
    """A job's folder and what was read of it until now; `standing` reads on."""

    folder: Path
    tail: Tail = field(init=False)
    state: str = WAITING
    share: float = 0.0
    what: str = ""
    host: str = ""
    pid: int = 0
    began: float = 0.0
    began_share: float = 0.0
    steps: int = 1
    epochs: int = 1
    top1: list[float] = field(default_factory=list)
    img_per_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tail = Tail(self.folder)

    def standing(self) -> Standing:
        """Return how far the job is by now."""
        for event in self.tail.read():
            self._hear(event)
        told_at, launched_at = (_changed(self.folder / name) for name in (EVENTS, LAUNCHED))
        state, memory, left_s = self.state, None, None
        if launched_at > told_at:  # handed over, perhaps once more, and not begun
            state, told_at = WAITING, launched_at
        if state == RUNNING:
            if self.host == socket.gethostname():
                memory = tree_memory(self.pid)
                state = GONE if memory is None else RUNNING
            gained = self.share - self.began_share
            if gained > 0 and state == RUNNING:
                left_s = (told_at - self.began) * (1 - self.share) / gained
        return Standing(
            name=_name(self.folder),
            state=state,
            share=self.share,
            what=self.what,
            silent_s=max(0.0, time.time() - told_at),
            host=self.host,
            top1=tuple(self.top1),
            img_per_s=tuple(self.img_per_s),
            left_s=left_s,
            memory=memory,
        )

    def _hear(self, event: Event) -> None:
        match event:
            case JobBegan():
                self.state, self.host, self.pid = RUNNING, event.host, event.pid
                self.what, self.began = "starting", event.at
                self.share = self.began_share = 0.0
            case RunStarted():
                self.steps, self.epochs = event.num_steps, event.spec.recipe.epochs
                self.share = self.began_share = event.epochs_done / self.epochs
                del self.top1[event.epochs_done :], self.img_per_s[event.epochs_done :]
            case StepDone(epoch, step):
                self.share = ((epoch - 1) * self.steps + step) / (self.epochs * self.steps)
                self.what = f"epoch {epoch}/{self.epochs}"
            case EpochDone(facts):
                self.share = facts.epoch / self.epochs
                self.what = f"epoch {facts.epoch}/{self.epochs}, loss {facts.loss:.3f}"
                self.top1.append(facts.told_top1)
                self.img_per_s.append(facts.throughput)
            case Evaluating():
                self.what = "testing"
            case Profiling():
                self.share, self.what = event.done, f"{event.stage} {event.row}".strip()
            case RunDone(record, _, _):
                tested = record.test
                self.what = "" if tested is None else f"top-1 {100 * tested.top1:.2f} %"
            case JobEnded():
                self.state = _state(event)
                done = event.code == 0
                self.share, self.what = (
                    (1.0, self.what) if done else (self.share, event.reason or "")
                )
            case _:
                pass


def tree_memory(pid: int) -> int | None:
    """Return the resident bytes of a process and of those it started; None where it is gone."""
    try:
        first = psutil.Process(pid)
        tree = [first, *first.children(recursive=True)]
    except (psutil.Error, ValueError, OverflowError):  # or its number is none
        return None
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it has ended meanwhile
    return total


class Following:
    """The jobs in and below a folder, each file of which is read once however often one looks."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.jobs: dict[Path, Followed] = {}

    def standings(self) -> list[Standing]:
        """Return how far the jobs are by now, in the order of their folders."""
        found = (path for name in (EVENTS, LAUNCHED) for path in self.runs.rglob(name))
        folders = {path.parent for path in found if path.is_file()}  # a pipe would be waited for
        self.jobs = {folder: self.jobs.get(folder) or Followed(folder) for folder in folders}
        return [self.jobs[folder].standing() for folder in sorted(self.jobs)]


def _changed(path: Path) -> float:
    """Return when a file was written last, in seconds since 1970; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _name(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        return read_assignment(folder).job.name  # where there is one that is whole
    return folder.name if folder.parent.name != "profiles" else f"profile-{folder.name}"


def _state(event: JobEnded) -> str:
    if event.code == 0:
        return "done"
    return "preempted" if event.is_preempted else "failed"
