"""Profile models now: in this process, or repeated in processes of their own as one series."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.errors import EXIT_USAGE, UserError
from bench.events import Emit, Event, Profiling, RowDone, Warned
from bench.execute import jobs
from bench.execute.jobs import ProfileJob
from bench.execute.process import carry_out
from bench.measure import workload  # noqa: F401  # what a copy of this process needs
from bench.measure.resources.peak_memory import MemoryServer
from bench.record.profile import ProfileRecord
from bench.signals import Preempted

News = TypeVar("News")


@dataclass
class Profiled:
    """The records so far; in one line what ended the work early, and whether a signal did."""

    records: list[ProfileRecord]
    failure: str | None = None
    interrupted: bool = False


@contextmanager
def early_server(*, wanted: bool) -> Iterator[MemoryServer | None]:
    """Start what measures memory while this process has imported torch and computed nothing."""
    if not wanted:
        yield None
        return
    with MemoryServer(fork=True) as server:
        yield server


def profile_now(
    job: ProfileJob, times: int, emit: Emit, server: MemoryServer | None = None
) -> Profiled:
    """Do a sitting, or ``times`` of them in fresh processes; each record is a file at once.

    What was finished is kept whatever ends the work. Raises UserError for what a user can mend.
    """
    done = Profiled([])

    def keep(event: Event) -> None:
        if isinstance(event, RowDone):
            done.records.append(event.record)
        emit(event)

    try:
        if times == 1:
            jobs.do(job, keep, server)
        else:
            done.failure = _repeated(job, times, keep)
    except (KeyboardInterrupt, Preempted):
        done.interrupted = True
    return done


def _repeated(job: ProfileJob, times: int, emit: Emit) -> str | None:
    """Do a sitting ``times`` times, each in a fresh process; return why the last one failed.

    This process sleeps meanwhile: it wakes for what the other says, which says nothing while it is
    timing.
    """
    series = uuid.uuid4().hex[:12]
    for number in range(times):
        changes = {"series": series, "seed": job.spec.seed + number}
        again = replace(job, spec=job.spec.model_copy(update=changes))
        prefix = f"process {number + 1} of {times}: "
        ended = carry_out(again, prefixed(prefix, emit))
        if ended.code == EXIT_USAGE:
            raise UserError(str(ended.reason))
        if ended.reason is not None:
            return f"{prefix}{ended.reason}"
    return None


def prefixed(prefix: str, emit: Callable[[News], None]) -> Callable[[News], None]:
    """Return what tells events with a sitting's place among others before them."""

    def tell(event: News) -> None:
        if isinstance(event, Profiling):
            emit(replace(event, stage=prefix + event.stage))
        elif isinstance(event, Warned):
            emit(replace(event, warning=prefix + event.warning))
        else:
            emit(event)

    return tell
