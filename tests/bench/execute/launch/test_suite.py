"""What a conductor hands over, and what it makes of the ends that it is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import Engine, jobs

from bench.errors import UserError
from bench.events import Emit, Event, JobBegan, JobEnded, JobNews, RunStarted, Warned
from bench.execute import experiment, lock
from bench.execute.jobs import Job, TrainJob, encode
from bench.execute.launch import journal, node, suite
from bench.execute.launch.conductor import conducting
from bench.execute.launch.launchers import Launcher
from bench.execute.process import Ended
from bench.signals import EXIT_PREEMPTED


def restarted(out: Path) -> tuple[TrainJob, RunStarted]:
    """Return a job that throws away what is there, and what it tells when that is done."""
    (job,) = jobs(out, 1)
    return replace(job, if_unfinished="restart"), RunStarted(job.spec, 1, 1, 1, 0)


def handed_over(folder: Path) -> str:
    job = node.read_assignment(folder).job
    assert isinstance(job, TrainJob)
    return job.if_unfinished


def test_what_is_begun_anew_is_thrown_away_once(tmp_path: Path) -> None:
    """Not again at a preemption or a retry; again where the first attempt had not come so far."""
    job, started = restarted(tmp_path)
    asked: list[str] = []

    def ends(folder: Path, times: int) -> int:
        asked.append(handed_over(folder))
        if times == 2:
            with (folder / journal.EVENTS).open("a") as events:
                events.write(encode(started) + "\n")
        return (1, EXIT_PREEMPTED, 1, 0)[times - 1]

    launcher = Engine(ends).launcher()
    assert suite.carry_out_all([job], launcher, lambda news: None, retries=2) == []
    assert asked == ["restart", "restart", "resume", "resume"]


def test_a_scheduler_that_begins_a_job_once_more_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, started = restarted(tmp_path)
    node.write_assignment(job.folder, node.Assignment(job, 3.0))
    asked: list[str] = []
    threads: list[str] = []

    def carry_out(told: Job, emit: Callable[[Event], None], timeout_s: float | None) -> Ended:
        assert isinstance(told, TrainJob)
        assert timeout_s == 3.0
        asked.append(told.if_unfinished)
        threads.append(os.environ["OMP_NUM_THREADS"])
        emit(started)
        return Ended(None, 1.0, ())

    monkeypatch.setattr(node, "carry_out", carry_out)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    for wanted in (None, "2"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if wanted is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert node.work(os.fsencode(job.folder)) == 0
    assert asked == ["restart", "resume"]
    assert threads == ["3", "2"]  # as many as Slurm gave, unless others are asked for


def test_a_retry_on_this_machine_goes_on_with_what_was_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def carry_out(told: TrainJob, emit: Emit, timeout_s: float | None) -> Ended:
        asked.append(told.if_unfinished)
        return Ended("why", 1.0, (), 1)

    monkeypatch.setattr(experiment, "carry_out", carry_out)
    how = experiment._How(lambda news: None, None, None, 1)
    assert experiment._done_here(restarted(tmp_path)[0], how) is not None
    assert asked == ["restart", "resume"]


def locked_by_a_node(folder: Path, *events: Event) -> None:
    """Make a folder that a node locked just now, and the job of which told events."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = {"pid": 1, "started": 0.0, "host": "far", "boot": "x", "locked": True}
    (folder / lock.LOCK).write_text(json.dumps(owner))
    (folder / node.LAUNCHED).write_text('{"job_id": "before"}')
    (folder / journal.EVENTS).write_text("".join(encode(event) + "\n" for event in events))


def test_a_node_that_vanished_while_nobody_followed_frees_its_lock(tmp_path: Path) -> None:
    """By the engine's word on the job that was handed over; not where that job had ended."""
    engine = Engine(lambda folder, times: 0)
    began, ended = JobBegan("far", 1, 0.0), JobEnded(0, None, 1.0)
    for events, freed in (([began], True), ([began, ended], False), ([ended, began], True)):
        locked_by_a_node(tmp_path, *events)
        assert not suite.goes_on(tmp_path, engine.launcher())
        assert (tmp_path / lock.LOCK).exists() != freed
        assert not (tmp_path / node.LAUNCHED).exists()
    (job,) = jobs(tmp_path, 1)
    locked_by_a_node(job.folder, began)
    engine = Engine(lambda folder, times: 1 if (folder / lock.LOCK).exists() else 0)
    assert suite.carry_out_all([job], engine.launcher(), lambda news: None) == []


def test_a_folder_that_another_writes_keeps_no_other_job_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again after 1, 2, 4 and 8 s, by a clock that each look at the jobs moves by one."""
    first, second = jobs(tmp_path, 2)
    now, tried, ended = [0.0], [], []

    def submit(folder: Path, exclusive: bool) -> str:
        is_busy = folder == first.folder and len(tried) < 4
        if folder == first.folder:
            tried.append(now[0])
        reason = f"{folder} {lock.BUSY} another" if is_busy else None
        with (folder / journal.EVENTS).open("a") as events:
            events.write(encode(JobEnded(2 if is_busy else 0, reason, 1.0)) + "\n")
        return folder.name

    def emit(news: object) -> None:
        if isinstance(news, JobNews) and news.name == second.name:
            ended.append(now[0])

    def sleep(_: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(suite.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(suite.time, "sleep", sleep)
    launcher = Launcher(submit, lambda name: True, lambda name: None, 1000)
    assert suite.carry_out_all([first, second], launcher, emit) == []
    assert tried == [0.0, 1.0, 3.0, 7.0, 15.0]
    assert ended == [0.0]


def test_an_end_that_is_written_counts_where_the_engine_never_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Slurm keeps no accounts: after a minute, which is said once."""
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(suite.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(suite.time, "sleep", sleep)
    told: list[object] = []
    engine = Engine(lambda folder, times: (1, 0)[times - 1])
    launcher = replace(engine.launcher(), is_dead=lambda name: False)
    assert suite.carry_out_all(jobs(tmp_path, 2), launcher, told.append, retries=1) == []
    assert set(engine.submitted.values()) == {2}
    assert 2 * suite.GRACE_S < now[0] < 2 * suite.GRACE_S + 10
    warned = [news for news in told if isinstance(news, JobNews) and isinstance(news.event, Warned)]
    assert len(warned) == 1


def test_a_job_that_another_engine_has_is_refused(tmp_path: Path) -> None:
    """Its name says nothing to this one; a line without an engine is of an older version."""
    (job,) = jobs(tmp_path, 1)
    first = replace(Engine(lambda folder, times: 0).launcher(), engine="ray")
    second = replace(first, engine="slurm")
    living = replace(first, is_dead=lambda name: False)

    def emit(news: object) -> None:
        suite.check_engine(tmp_path, first)
        with pytest.raises(UserError, match=r"was handed to ray: go on with that, or .* delete"):
            suite.check_engine(tmp_path, second)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suite.carry_out_all([job], living, emit)
    (job.folder / node.LAUNCHED).write_text('{"job_id": "before"}')
    assert suite.running(tmp_path) == {str(job.folder): "before"}
    suite.check_engine(tmp_path, second)
    (job.folder / node.LAUNCHED).write_text('{"job_id": "before", "engine": "ray"}')
    with pytest.raises(UserError, match="was handed to ray"):
        conducting("slurm", {"cluster": "local"}, tmp_path).__enter__()
