"""What a conductor hands over, and what it makes of the ends that it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import Engine, jobs

from bench.events import Emit, Event, RunStarted
from bench.execute import experiment
from bench.execute.jobs import Job, TrainJob, encode
from bench.execute.launch import journal, node, suite
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

    def carry_out(told: Job, emit: Callable[[Event], None], timeout_s: float | None) -> Ended:
        assert isinstance(told, TrainJob)
        assert timeout_s == 3.0
        asked.append(told.if_unfinished)
        emit(started)
        return Ended(None, 1.0, ())

    monkeypatch.setattr(node, "carry_out", carry_out)
    for _ in range(2):
        assert node.work(os.fsencode(job.folder)) == 0
    assert asked == ["restart", "resume"]


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
