"""Carry out the jobs of an experiment by a launcher: hand out, follow, retry, set aside.

waiting ──► submitted ──► its events followed ──► done, waiting again, or set aside

Two things tell of a job. What it writes says how it ended. Where it says nothing, the engine's word
that it is dead counts, and frees the lock which it held on a node that this machine cannot see.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UserError
from bench.events import EmitNews, JobBegan, JobEnded, JobFailed, JobNews, RunStarted, Warned
from bench.execute import lock
from bench.execute.jobs import Job, resumed
from bench.execute.launch import node
from bench.execute.launch.journal import Tail, size
from bench.execute.launch.launchers import Launcher
from bench.machine.environment import utc_now
from bench.record.failure import Failure, archive_failures, write_failure
from bench.record.files import write_whole

POLL_S = 0.05
REST = 4.0  # times what a round over all jobs took, so that many do not keep a core busy
BUSY_S = 1.0  # until a folder that somebody else writes is tried again; each time twice as long
BUSY_MOST_S = 60.0
GRACE_S = 60.0  # for an engine to say that a job is dead which has told its end
PREEMPTIONS = 1000  # of one job; whoever preempts it more often will never let it end


@dataclass
class _Active:
    """A job that was handed over: by which name the engine knows it, and what it told so far."""

    job: Job
    job_id: str
    tail: Tail
    host: str = ""
    ended: JobEnded | None = None
    ended_at: float = 0.0


@dataclass
class _Suite:
    launcher: Launcher
    emit: EmitNews
    retries: int
    timeout_s: float | None
    exclusive: bool
    waiting: deque[Job]
    active: dict[str, _Active] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    preempted: dict[str, int] = field(default_factory=dict)
    failed: list[JobFailed] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=dict)
    rests_until: dict[str, float] = field(default_factory=dict)
    is_told: bool = False  # that the engine does not tell of ends


def carry_out_all(
    jobs: Sequence[Job],
    launcher: Launcher,
    emit: EmitNews,
    *,
    retries: int = 0,
    timeout_s: float | None = None,
    exclusive: bool = False,
) -> list[JobFailed]:
    """Do all jobs; return those that failed ``retries`` times more, which are recorded.

    A job that an earlier conductor has handed over and that its engine still knows is followed, not
    done again. ``exclusive`` jobs get a node of their own.
    """
    suite = _Suite(launcher, emit, retries, timeout_s, exclusive, deque(jobs))
    while suite.waiting or suite.active:
        begin = time.monotonic()
        for job in [j for j in suite.waiting if suite.rests_until.get(j.name, 0.0) <= begin]:
            if len(suite.active) < launcher.max_jobs:
                suite.waiting.remove(job)
                _start(suite, job)
        begin = time.monotonic()
        for active in list(suite.active.values()):
            _follow(suite, active)
        if suite.active or suite.waiting:
            time.sleep(max(POLL_S, REST * (time.monotonic() - begin)))
    return suite.failed


def _start(suite: _Suite, job: Job) -> None:
    """Hand a job over, or find that this was done before."""
    known = _launched(job.folder)
    if known is not None and not suite.launcher.is_dead(known):
        suite.active[job.name] = _Active(job, known, Tail(job.folder))
        return
    if known is not None:
        _forget(job.folder)
    node.write_assignment(job.folder, node.Assignment(job, suite.timeout_s))
    tail = Tail(job.folder, size(job.folder))
    try:
        job_id = suite.launcher.submit(job.folder, suite.exclusive)
    except UserError as error:  # no node has what it asks for: the others are done
        suite.active[job.name] = _Active(job, "", tail, ended=JobEnded(1, str(error), 0.0))
        _settle(suite, suite.active[job.name])
        return
    facts = {"job_id": job_id, "engine": suite.launcher.engine}
    write_whole(job.folder / node.LAUNCHED, json.dumps(facts).encode())
    suite.active[job.name] = _Active(job, job_id, tail)


def _launched(folder: Path, fact: str = "job_id") -> str | None:
    """Return by which name an engine knows a folder's job, or another fact; None without."""
    try:
        return str(json.loads((folder / node.LAUNCHED).read_text(encoding="utf-8"))[fact])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget(folder: Path) -> None:
    """Forget a job of which its engine says it is dead, and free the lock that it still has."""
    told = [event for event in Tail(folder).read() if isinstance(event, JobBegan | JobEnded)]
    if told and isinstance(told[-1], JobBegan):
        lock.free(folder, told[-1].host)
    (folder / node.LAUNCHED).unlink(missing_ok=True)


def _follow(suite: _Suite, active: _Active) -> None:
    """Pass on what a job told, and settle it when it has ended or is dead."""
    suite.launcher.bring(active.job_id, active.job.folder)
    # Asked first: what a job writes before it is dead is there by the time that it is read.
    dead = suite.launcher.is_dead(active.job_id)
    for event in active.tail.read():
        if isinstance(event, JobBegan):
            active.host, active.ended = event.host, None
        elif isinstance(event, JobEnded):
            active.ended, active.ended_at = event, time.monotonic()
        elif isinstance(event, RunStarted):  # what was to be thrown away is; the rest is kept
            active.job = resumed(active.job)
        suite.emit(JobNews(active.job.name, event))
    if active.ended is not None and time.monotonic() - active.ended_at > GRACE_S and not dead:
        dead = True
        if not suite.is_told:
            suite.is_told = True
            engine = suite.launcher.engine or "its engine"
            told = f"ended {GRACE_S:g} s ago, of which {engine} says nothing; what it wrote counts"
            suite.emit(JobNews(active.job.name, Warned(told)))
    if dead:
        _settle(suite, active)


def _settle(suite: _Suite, active: _Active) -> None:
    """Do with a job that is over what its end asks for."""
    job, ended = active.job, active.ended
    del suite.active[job.name]
    (job.folder / node.LAUNCHED).unlink(missing_ok=True)
    if ended is None:
        lock.free(job.folder, active.host)
        ended = JobEnded(1, f"its process on {active.host or 'its node'} is gone", 0.0)
    if ended.code == 0:
        archive_failures(job.folder)
        return
    if lock.BUSY in (ended.reason or ""):
        # What a dead worker started has lost its reader: it saves and ends at its next step.
        times = suite.busy[job.name] = suite.busy.get(job.name, 0) + 1
        rest_s = min(BUSY_S * 2.0 ** min(times - 1, 10), BUSY_MOST_S)
        suite.rests_until[job.name] = time.monotonic() + rest_s
        suite.waiting.append(job)
        return
    counts = suite.preempted if ended.is_preempted else suite.failures
    counts[job.name] = counts.get(job.name, 0) + 1
    if counts[job.name] <= (PREEMPTIONS if ended.is_preempted else suite.retries):
        suite.waiting.append(job)
        return
    failure = Failure(
        id=job.name,
        reason=ended.reason or f"exit code {ended.code}",
        created_at=utc_now(),
        wall_s=ended.wall_s,
        last_lines=ended.last_lines,
    )
    failed = JobFailed(job.name, failure.reason, str(write_failure(job.folder, failure)))
    suite.emit(failed)
    suite.failed.append(failed)


def goes_on(folder: Path, launcher: Launcher) -> bool:
    """Tell whether an engine has the job of a folder; forget one that ended while nobody followed.

    What was finished then has still to be followed to its end, and fetched where that is needed.
    """
    known = _launched(folder)
    if known is None or not launcher.is_dead(known):
        return known is not None
    _forget(folder)
    return False


def is_handed_over(folder: Path) -> bool:
    """Tell whether the job of a folder was ever given to an engine."""
    return (folder / node.JOB).exists()


def running(runs: Path) -> dict[str, str]:
    """Return the folders below ``runs`` whose jobs were handed over, with their engine's names."""
    found = ((path.parent, _launched(path.parent)) for path in runs.rglob(node.LAUNCHED))
    return {str(folder): job_id for folder, job_id in found if job_id is not None}


def check_engine(runs: Path, launcher: Launcher) -> None:
    """Raise UserError where another engine has a job of ``runs``; each knows but its own."""
    for folder in running(runs):
        engine = _launched(Path(folder), "engine")
        if engine and engine != launcher.engine:
            raise UserError(
                f"{folder} was handed to {engine}: go on with that, or if the job is no more"
                f" delete {Path(folder) / node.LAUNCHED}"
            )


def cancel_all(runs: Path, launcher: Launcher) -> int:
    """Ask all jobs of a suite that still live to end; return how many there were."""
    living = [job_id for job_id in running(runs).values() if not launcher.is_dead(job_id)]
    for job_id in living:
        launcher.cancel(job_id)
    return len(living)
