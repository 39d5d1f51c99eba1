"""Jobs by launchers: the same records as here, killed and gone on with, followed from anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
import record_factory as make
from fake_engine import Engine, jobs

from bench.errors import UserError
from bench.events import Event, JobBegan, JobEnded, JobNews, RunDone, StepDone
from bench.execute import experiment as conduct
from bench.execute import lock
from bench.execute.jobs import encode
from bench.execute.launch import follow, journal, node, suite
from bench.execute.launch.conductor import conducting, probe
from bench.execute.launch.launchers import (
    Launcher,
    chosen_launcher,
    launcher_options,
    open_launcher,
)
from bench.machine import environment
from bench.record.failure import failures
from bench.report.read.load import load
from bench.signals import EXIT_PREEMPTED
from bench.spec.experiment import Experiment, parse_experiment

ROOT = Path(__file__).parents[4]
EXPERIMENT = """
name = "suite"
models = ["resnet20"]
stems = ["cifar"]
seeds = [0, 1]
device = "cpu"

[data]
name = "shapes"
train_limit = 64
test_limit = 20

[recipe]
base = "quick"
epochs = 1
"""


def done_by(engine: Engine, out: Path, number: int, retries: int = 0) -> list[str]:
    events: list[object] = []
    failed = suite.carry_out_all(
        jobs(out, number), engine.launcher(), events.append, retries=retries
    )
    return [job.reason for job in failed]


def test_a_thousand_jobs_are_done_once_each_at_little_cost(tmp_path: Path) -> None:
    """What is ours of a job that does nothing: at most 50 ms."""
    engine = Engine(lambda folder, times: 0)
    begin = time.process_time()
    assert done_by(engine, tmp_path, 1000) == []
    assert (time.process_time() - begin) / 1000 < 0.05
    assert set(engine.submitted.values()) == {1}
    assert len(engine.submitted) == 1000


def test_what_fails_is_retried_and_then_set_aside_with_its_reason(tmp_path: Path) -> None:
    """Two retries: one job is well at the third try, the other never."""
    well = jobs(tmp_path, 2)[0].name
    engine = Engine(lambda folder, times: 0 if folder.name == well and times == 3 else 1)
    assert done_by(engine, tmp_path, 2, retries=2) == ["code 1"]
    assert set(engine.submitted.values()) == {3}
    assert len(failures(jobs(tmp_path, 2)[1].folder)) == 1
    assert failures(jobs(tmp_path, 2)[0].folder) == []


def test_a_job_that_its_engine_refuses_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    engine = Engine(lambda folder, times: 0)
    first, second = jobs(tmp_path, 2)

    def submit(folder: Path, exclusive: bool) -> str:
        if folder == first.folder:
            raise UserError("no node has 9 GPUs")
        return engine.submit(folder, exclusive)

    launcher = Launcher(submit, lambda name: True, lambda name: None, 1)
    (failed,) = suite.carry_out_all([first, second], launcher, lambda news: None, retries=1)
    assert (failed.name, failed.reason) == (first.name, "no node has 9 GPUs")
    assert engine.submitted == {second.name: 1}


def test_a_job_that_is_preempted_goes_on_without_a_retry(tmp_path: Path) -> None:
    engine = Engine(lambda folder, times: EXIT_PREEMPTED if times < 5 else 0)
    assert done_by(engine, tmp_path, 1) == []
    assert set(engine.submitted.values()) == {5}


def test_a_node_that_vanishes_frees_its_lock_by_the_engines_word(tmp_path: Path) -> None:
    """Its lock names another machine and is new: only the engine knows that its owner is dead."""

    def ends(folder: Path, times: int) -> int | None:
        owner = {"pid": 1, "started": 0.0, "host": "far", "boot": "x", "locked": True}
        if times == 1:
            (folder / lock.LOCK).write_text(json.dumps(owner))
            return None
        with lock.held(folder):  # UserError while the lock of the dead process is there
            return 0

    engine = Engine(ends)
    assert done_by(engine, tmp_path, 1, retries=1) == []
    assert set(engine.submitted.values()) == {2}


def test_a_lock_on_this_machine_is_nobodys_to_free(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        lock.free(tmp_path, lock.myself().host)
        assert (tmp_path / lock.LOCK).exists()


def test_a_job_that_was_handed_over_before_is_followed_not_done_again(tmp_path: Path) -> None:
    """The conductor died: the engine still knows the job, which then ends."""
    (job,) = jobs(tmp_path, 1)
    engine = Engine(lambda folder, times: 0, living={"before"})
    node.write_assignment(job.folder, node.Assignment(job))
    (job.folder / node.LAUNCHED).write_text('{"job_id": "before"}')
    events = [encode(JobBegan("far", 1, 0.0)), encode(JobEnded(0, None, 1.0))]
    (job.folder / journal.EVENTS).write_text("\n".join(events) + "\n")
    seen: list[object] = []

    def emit(news: object) -> None:
        seen.append(news)
        engine.living.clear()

    assert suite.carry_out_all([job], engine.launcher(), emit) == []
    assert engine.submitted == {}
    assert JobNews(job.name, JobEnded(0, None, 1.0)) in seen


def test_what_was_finished_while_nobody_followed_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conductor died; the engine has the job still, and then no more."""
    (job,) = jobs(tmp_path, 1)
    node.write_assignment(job.folder, node.Assignment(job))
    launched, record = job.folder / node.LAUNCHED, make.run_record()
    (job.folder / "run.json").touch()
    events = [encode(JobBegan("far", 1, 0.0)), encode(JobEnded(0, None, 1.0))]
    (job.folder / journal.EVENTS).write_text("\n".join(events) + "\n")
    monkeypatch.setattr(conduct.run_folder, "load_finished", lambda *_: record)
    engine = Engine(lambda folder, times: 0)
    seen: list[object] = []

    def emit(news: object) -> None:
        seen.append(news)
        engine.living.clear()

    how = conduct._How(emit, None, engine.launcher(), 0)
    for living, told in (
        ({"before"}, JobNews(job.name, JobEnded(0, None, 1.0))),
        (set[str](), RunDone(record, str(job.folder), reused=True)),
    ):
        launched.write_text('{"job_id": "before"}')
        engine.living = living
        assert conduct._trained([job], Mock(), how) == []
        assert seen[-1] == told
        assert not launched.exists()
    assert engine.submitted == {}


def test_a_folder_says_how_far_its_job_is(tmp_path: Path) -> None:
    """A line that is being written is left for later; an end that was cut short is no end."""
    (job,) = jobs(tmp_path, 1)
    node.write_assignment(job.folder, node.Assignment(job, 3.0))
    assert node.read_assignment(job.folder).timeout_s == 3.0
    path = job.folder / journal.EVENTS
    path.write_text(encode(JobBegan("far", 1, 0.0)) + "\n" + encode(StepDone(1, 1)) + "\n" + '["Jo')
    (standing,) = follow.Following(tmp_path).standings()
    assert (standing.name, standing.state, standing.host) == (job.name, "running", "far")
    tail = journal.Tail(job.folder)
    assert len(list(tail.read())) == 2
    with path.open("a") as file:
        file.write(encode(JobEnded(1, "why", 1.0))[4:] + "\n")
    assert list(tail.read()) == [JobEnded(1, "why", 1.0)]
    (standing,) = follow.Following(tmp_path).standings()
    assert (standing.state, standing.what) == ("failed", "why")


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    for name, options, words in (
        ("pbs", {}, "unknown launcher 'pbs'; choose from: here, slurm, ray"),
        (chosen_launcher({}, "", [])[0], {}, "unknown launcher ''; choose from: here, slurm, ray"),
        ("slurm", {"partitoin": "x"}, "unknown option of the slurm launcher 'partitoin'"),
        ("slurm", {"cluster": "pbs"}, "unknown cluster 'pbs'; choose from: slurm, local"),
        ("slurm", {"timeout_min": "x"}, "timeout_min is of type int"),
        ("slurm", {"timeout_min": 0}, "timeout_min is more than 0, not 0"),
        ("slurm", {"gpus_per_node": -1, "cluster": "local"}, "gpus_per_node is 0 or more, not -1"),
        ("slurm", {"nodes": 2, "cluster": "local"}, "one process on one node: nodes is 1, not 2"),
        ("slurm", {"tasks_per_node": 4}, "tasks_per_node is 1, not 4"),
        ("slurm", {"mem_gb": 8}, "there is no sbatch"),
        ("slurm", {"max_jobs": 0}, "max_jobs takes a whole number from 1"),
        ("slurm", {"cluster": "local", "max_jobs": 999}, "999 jobs of . threads do not fit on"),
        (
            "slurm",
            {"cluster": "local", "gpus_per_node": 1, "max_jobs": 2},
            "submitit gives all local jobs the same GPUs: set max_jobs=1, or gpus_per_node=0",
        ),
        ("slurm", {}, "no Slurm can be reached from here"),
    ):
        with pytest.raises(UserError, match=words):
            open_launcher(name, options, tmp_path)
    with pytest.raises(UserError, match="takes option=value with commas, not 'gpu'"):
        launcher_options(["partition=gpu,gpu"])
    assert launcher_options(["a=1,b=x", "c=true"]) == {"a": 1, "b": "x", "c": True}


def test_a_job_sees_the_others_of_its_machine(tmp_path: Path) -> None:
    """Not itself, and none that has ended."""
    code = "import time; time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, "-m", environment.JOB, str(tmp_path), "another-run"]
    ) as process:
        assert "another-run" in environment.jobs_beside()
        process.kill()
    assert "another-run" not in environment.jobs_beside()


def test_a_folder_that_nodes_do_not_see_is_told_before_the_suite(tmp_path: Path) -> None:
    blind = Launcher(lambda folder, alone: "job", lambda name: True, lambda name: None, 1)
    with pytest.raises(UserError, match="the nodes do not see"):
        probe(blind, tmp_path)
    assert list(tmp_path.iterdir()) == []
    tried: list[Path] = []

    def submit(folder: Path, alone: bool) -> str:
        """Have the node of the first probe go before it could look."""
        tried.append(folder)
        return str(len(tried) == 2 and node.work(os.fsencode(folder)))

    left = tmp_path / "probe-0123abcd"  # of one that was killed while it probed
    left.mkdir()
    (left / node.SEEN).touch()
    (tmp_path / "probe-mine").mkdir()
    probe(Launcher(submit, lambda name: True, print, 1), tmp_path)
    assert len(tried) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["probe-mine"]


def test_there_is_one_conductor_of_a_folder(tmp_path: Path) -> None:
    options = {"cluster": "local"}
    with conducting("slurm", options, tmp_path):
        second = conducting("slurm", options, tmp_path)
        with pytest.raises(UserError, match="is being written by process"):
            second.__enter__()
    with conducting("slurm", options, tmp_path):
        pass


def experiment() -> Experiment:
    made = parse_experiment(EXPERIMENT, "suite.toml")
    return made.model_copy(update={"profile": None})


def test_a_device_that_only_the_nodes_have_is_not_looked_for_here(tmp_path: Path) -> None:
    """The conductor's machine has no GPU: the trainings and the sitting are handed over as told."""
    asked: list[str] = []

    def ends(folder: Path, times: int) -> int:
        asked.append(node.read_assignment(folder).job.spec.device)
        return int(folder.parent.name == conduct.PROFILES)

    text = EXPERIMENT.replace('"cpu"', '"cuda"') + "\n[profile]\nbatch_sizes = [1]\n"
    launcher, runs = Engine(ends).launcher(), tmp_path / "runs"
    made, out = parse_experiment(text, "suite.toml"), tmp_path / "out"
    done = conduct.conduct(made, runs, out, emit=lambda event: None, launcher=launcher)
    assert asked == ["cuda", "cuda", "cuda"]
    assert [job.name.partition("-")[0] for job in done.failed] == ["profile"]
    unknown = made.model_copy(update={"device": "gpu"})
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        conduct.conduct(unknown, runs, out, emit=lambda event: None, launcher=launcher)


def test_the_local_executor_gives_the_records_of_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights bit for bit, though one of the workers is killed on the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = conduct.conduct(experiment(), Path("here"), Path("o1"), emit=lambda event: None)
    killed: list[int] = []

    def emit(event: Event | JobNews) -> None:
        if isinstance(event, JobNews) and isinstance(event.event, JobBegan) and not killed:
            killed.append(event.event.pid)
            assert os.getpgid(event.event.pid) != os.getpgid(0)  # which the terminal interrupts
            for process in psutil.Process(event.event.pid).children(recursive=True):
                process.send_signal(signal.SIGKILL)

    runs = Path("there")
    with conducting("slurm", {"cluster": "local"}, runs) as launcher:
        there = conduct.conduct(
            experiment(), runs, Path("o2"), emit=emit, launcher=launcher, retries=1
        )
    assert killed
    assert there.failed == here.failed == ()
    assert [run.weights for run in there.runs] == [run.weights for run in here.runs]
    assert [run.test for run in there.runs] == [run.test for run in here.runs]
    own = {run.id for run in here.runs}  # one after the other, whatever else the machine does
    assert all(own.isdisjoint(run.shared_with) for run in here.runs)
    assert {standing.state for standing in follow.Following(runs).standings()} == {"done"}
    assert suite.running(runs) == {}
    assert load([runs]).set_aside == ()
