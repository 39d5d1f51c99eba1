"""Read what nodes wrote: the events of a job as they come, and how far every job of a suite is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.events import (
    EpochDone,
    Event,
    JobBegan,
    JobEnded,
    Profiling,
    RunDone,
    RunStarted,
    StepDone,
)
from bench.execute.jobs import Job, decode
from bench.execute.launch.node import EVENTS, read_assignment


class Tail:
    """The events that are added to a job's file; those before ``offset`` are known."""

    def __init__(self, job: Job, offset: int = 0) -> None:
        self.job, self.offset = job, offset

    def read(self) -> Iterator[Event]:
        """Yield the events since the last time; a line that is being written is left for later."""
        try:
            with (self.job.folder / EVENTS).open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                yield decode(line.decode(), self.job)
            except (ValueError, TypeError, KeyError):
                continue  # cut short as its node died, and another went on behind it


def size(folder: Path) -> int:
    """Return how many bytes of events there are."""
    try:
        return (folder / EVENTS).stat().st_size
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class Standing:
    """How far a job is: a word, a share of the whole, what it does, and when it last said so."""

    name: str
    state: str
    share: float
    what: str
    silent_s: float
    host: str = ""


def standings(runs: Path) -> list[Standing]:
    """Return how far the jobs in and below a folder of runs are, by what they wrote there."""
    return [standing(path.parent) for path in sorted(runs.rglob(EVENTS))]


def standing(folder: Path) -> Standing:
    """Return how far the job of a folder is."""
    job = read_assignment(folder).job
    state, share, what, host = "waiting", 0.0, "", ""
    steps = epochs = 1
    for event in Tail(job).read():
        match event:
            case JobBegan():
                state, share, what, host = "running", 0.0, "starting", event.host
            case RunStarted():
                steps, epochs = event.num_steps, event.spec.recipe.epochs
            case StepDone(epoch, step):
                share = ((epoch - 1) * steps + step) / (epochs * steps)
                what = f"epoch {epoch}/{epochs}"
            case EpochDone(facts):
                share = facts.epoch / epochs
                what = f"epoch {facts.epoch}/{epochs}, loss {facts.loss:.3f}"
            case Profiling():
                share, what = event.done, f"{event.stage} {event.row}"
            case RunDone(record, _, _):
                what = "" if record.test is None else f"top-1 {100 * record.test.top1:.2f} %"
            case JobEnded():
                state = _state(event)
                share, what = (1.0, what) if event.code == 0 else (share, event.reason or "")
            case _:
                pass
    silent_s = max(0.0, time.time() - (folder / EVENTS).stat().st_mtime)
    return Standing(job.name, state, share, what, silent_s, host)


def _state(event: JobEnded) -> str:
    if event.code == 0:
        return "done"
    return "preempted" if event.is_preempted else "failed"
