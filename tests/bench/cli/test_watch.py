"""Runs are seen from another terminal: while they go on, when they end, and when they vanish."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.status import picture
from bench.errors import UserError
from bench.events import EpochDone, JobBegan, JobEnded, RunStarted, StepDone
from bench.execute.jobs import encode
from bench.execute.launch.follow import Following
from bench.execute.launch.journal import EVENTS, journal
from bench.execute.launch.node import JOB, LAUNCHED
from bench.record.run import EpochFacts
from bench.signals import EXIT_PREEMPTED, Preempted
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec

ROOT = Path(__file__).parents[3]
NAME = "se_resnet50-cifar-cifar10-standard-batch_size=32-lr=0.02-e4-s0-1a2b3c4d"
SPEC = RunSpec(model=ModelSpec(name="tiny"), data=DataSpec(), recipe=Recipe(name="r", epochs=4))
STARTED = RunStarted(SPEC, params=1, num_train=40, num_steps=10, epochs_done=0)


def epoch(number: int, top1: float) -> EpochDone:
    facts = {"epoch": number, "loss": 1.5, "top1": top1, "lr": 0.1}
    timed = {"num_images": 10, "throughput": 100.0 * number, "epoch_wall_s": 2.0}
    return EpochDone(EpochFacts.model_validate(facts | timed))


def tell(folder: Path, *events: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / EVENTS).open("a") as file:
        file.writelines(encode(event) + "\n" for event in events)  # type: ignore[arg-type]


def began(pid: int) -> JobBegan:
    return JobBegan(socket.gethostname(), pid, time.time() - 100)


def watched(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["watch", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_a_job_that_runs_shows_its_epochs_its_time_left_and_its_memory(tmp_path: Path) -> None:
    tell(tmp_path / NAME, began(os.getpid()), STARTED, epoch(1, 0.25), epoch(2, 0.5))
    (job,) = Following(tmp_path).standings()
    assert (job.state, job.share, job.top1) == ("running", 0.5, (0.25, 0.5))
    assert job.img_per_s == (100, 200)
    assert job.left_s == pytest.approx(100, abs=5)
    assert job.memory is not None
    assert job.memory > 2**20
    for width in (80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(picture([job], width))
        lines = console.export_text().splitlines()
        assert len(lines) == 4
        assert max(map(len, lines)) <= width
        assert "50 %  epoch 2/4, loss 1.500" in lines[2]
        assert "top-1 ▁█ 50.0 %  img/s ▁█ 200" in lines[3]


def test_each_file_is_read_once_however_often_one_looks(tmp_path: Path) -> None:
    tell(tmp_path / "a", began(os.getpid()), STARTED)
    following = Following(tmp_path)
    assert [job.what for job in following.standings()] == ["starting"]
    text = (tmp_path / "a" / EVENTS).read_text()
    (tmp_path / "a" / EVENTS).write_text("x" * len(text))  # what was read is not read again
    tell(tmp_path / "a", StepDone(3, 5))
    tell(tmp_path / "b", began(os.getpid()))
    assert [job.share for job in following.standings()] == [0.625, 0.0]


def test_a_process_that_is_no_more_is_gone_and_ends_the_watch(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    tell(tmp_path / "a", began(dead.pid), STARTED)
    tell(tmp_path / "b", began(os.getpid()), JobEnded(1, "out of memory", 1.0))
    first, second = watched(str(tmp_path))
    assert first.split()[0] == "gone"
    assert second.split()[0] == "failed"
    assert second.endswith("out of memory")


def test_json_is_a_line_for_each_change(tmp_path: Path) -> None:
    tell(tmp_path / "a", began(os.getpid()), STARTED, epoch(1, 0.25), JobEnded(0, None, 1.0))
    (line,) = watched(str(tmp_path), "--json")
    assert json.loads(line)["state"] == "done"
    assert json.loads(line)["top1"] == [0.25]


def test_a_folder_that_is_not_there_or_silent_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "no")])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "there is no folder" in result.output
    assert watched(str(tmp_path)) == [f"nothing in {tmp_path} has told of itself yet"]


def test_ctrl_c_ends_the_watch_with_0_and_changes_are_told_as_they_come(tmp_path: Path) -> None:
    tell(tmp_path / "a", began(os.getpid()), STARTED)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "watch", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "starting" in process.stdout.readline()
    tell(tmp_path / "a", epoch(1, 0.25))
    assert "epoch 1/4, loss 1.500" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.stdout.close()


def test_a_training_here_tells_of_itself_and_of_its_end(tmp_path: Path) -> None:
    """Seen from another process while it goes on: none of it needs a launcher."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        following = Following(tmp_path)
        while not done.wait(0.02):
            seen.update(job.state for job in following.standings())

    looking = threading.Thread(target=look)
    looking.start()
    tiny = ("--dataset", "shapes", "--recipe", "quick", "--epochs", "1", "--batch-size", "10")
    few = ("--train-limit", "40", "--test-limit", "20", "--out", str(tmp_path))
    command = ["train", "resnet18", *tiny, *few]
    try:
        assert CliRunner().invoke(app, command).exit_code == 0
    finally:
        done.set()
        looking.join()
    assert seen == {"running", "done"} or seen == {"running"}
    (job,) = Following(tmp_path).standings()
    assert (job.state, job.share) == ("done", 1.0)
    assert job.what.startswith("top-1 ")
    events = next(tmp_path.glob(f"*/{EVENTS}"))
    before = events.read_text()
    assert CliRunner().invoke(app, command).exit_code == 0  # found finished: nothing to tell
    assert events.read_text() == before


def test_how_a_block_ends_is_written_and_nothing_where_nothing_happened(tmp_path: Path) -> None:
    def end(reason: BaseException | None, *events: StepDone) -> None:
        with journal(tmp_path) as tell:
            for event in events:
                tell(event)
            if reason is not None:
                raise reason

    with pytest.raises(UserError):
        end(UserError("somebody else is at work"))
    assert list(tmp_path.iterdir()) == []
    for reason, state in (
        (UserError("no"), "failed"),
        (Preempted("SIGTERM"), "preempted"),
        (None, "done"),
    ):
        if reason is None:
            end(reason, StepDone(1, 1))
        else:
            with pytest.raises(type(reason)):
                end(reason, StepDone(1, 1))
        assert Following(tmp_path).standings()[0].state == state
    ended = [line for line in (tmp_path / EVENTS).read_text().splitlines() if "JobEnded" in line]
    assert json.loads(ended[1])[1]["code"] == EXIT_PREEMPTED


def test_what_is_no_file_of_events_is_passed_over(tmp_path: Path) -> None:
    """A pipe would be waited for; what a line holds that nobody wrote is skipped."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / EVENTS)
    tell(tmp_path / NAME, began(10**30))
    with (tmp_path / NAME / EVENTS).open("a") as file:
        file.write("[" * 100_000 + "\n")
    (job,) = Following(tmp_path).standings()
    assert job.state == "gone"


def test_a_job_that_waits_for_a_node_is_shown(tmp_path: Path) -> None:
    """Handed over and not begun, for the first time and once more; then it begins."""
    for name in ("new", "again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / LAUNCHED).touch()
    tell(tmp_path / "again", began(os.getpid()), JobEnded(EXIT_PREEMPTED, "SIGUSR1", 1.0))
    os.utime(tmp_path / "again" / EVENTS, (1, 1))
    following = Following(tmp_path)
    assert [(job.name, job.state) for job in following.standings()] == [
        ("again", "waiting"),
        ("new", "waiting"),
    ]
    tell(tmp_path / "new", began(os.getpid()))
    assert [job.state for job in following.standings()] == ["waiting", "running"]


def test_a_damaged_job_and_a_folder_that_is_deleted_end_no_watch(tmp_path: Path) -> None:
    tell(tmp_path / "a", began(os.getpid()))
    tell(tmp_path / "b", began(os.getpid()))
    following = Following(tmp_path)
    for text in ('{"job": ', "[]", '{"job": {"task": "train"}}', "{}"):
        (tmp_path / "a" / JOB).write_text(text)
        assert [job.name for job in following.standings()] == ["a", "b"]
    shutil.rmtree(tmp_path / "a")
    assert [job.name for job in following.standings()] == ["b"]
