"""Cells in processes of their own: a failure is recorded, the others finish, all can go on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import record_factory as make
import tiny_cell

import senet
from bench import data
from bench.errors import UserError
from bench.events import EpochDone, Event, JobFailed, RunDone, StepDone
from bench.execute import experiment as conduct
from bench.execute import process as isolation
from bench.execute.jobs import ProfileJob, TrainJob, decode, encode, job_text, read_job
from bench.record.failure import failures, read_failure
from bench.report.read.load import load
from bench.signals import Preempted
from bench.spec.experiment import Experiment, ProfileEntry, parse_experiment
from bench.spec.profile import ProfileSpec, TimingSpec
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from tests.conftest import build_tiny

ROOT = Path(__file__).parents[3]
TINY_CELL = (sys.executable, str(ROOT / "tests" / "factories" / "tiny_cell.py"))
EXPERIMENT = """
name = "cells"
models = [{models}]
stems = ["cifar"]
device = "cpu"

[data]
name = "shapes"
train_limit = 64
test_limit = 20

[recipe]
base = "quick"
epochs = {epochs}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder, with cells that know the models of `tiny_cell`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(isolation, "COMMAND", TINY_CELL)
    monkeypatch.setattr(isolation, "GRACE_S", 1.0)
    for name in tiny_cell.MODELS:
        monkeypatch.setitem(senet.MODELS, name, build_tiny)
    return tmp_path


def experiment(*models: str, epochs: int = 1) -> Experiment:
    names = ", ".join(f'"{name}"' for name in models)
    made = parse_experiment(EXPERIMENT.format(models=names, epochs=epochs), "cells.toml")
    return made.model_copy(update={"profile": None})


def conducted(
    *models: str, epochs: int = 1, **options: float
) -> tuple[conduct.Conducted, list[Event]]:
    events: list[Event] = []
    done = conduct.conduct(
        experiment(*models, epochs=epochs), Path("runs"), Path("out"), emit=events.append, **options
    )
    return done, events


def test_a_cell_that_fails_is_recorded_the_others_finish_and_a_repeat_mends_it(here: Path) -> None:
    """A crash and a kill before a run that is well."""
    models = ("crashing", "killed", "tiny")
    done, events = conducted(*models)
    assert [record.spec.model.name for record in done.runs] == ["tiny"]
    found = {cell.name.split("-")[0]: cell for cell in done.failed}
    assert found["crashing"].reason == "exit code 1: RuntimeError: something broke"
    assert found["killed"].reason.startswith("ended by SIGKILL")
    assert len(found) == 2
    assert [event for event in events if isinstance(event, JobFailed)] == list(done.failed)
    failure = read_failure(Path(found["crashing"].record))
    assert failure.last_lines[-2:] == ("RuntimeError: something broke", "in two lines")
    assert failure.id == found["crashing"].name
    assert done.rendered is not None
    aside = {s.reason for s in load([Path("runs")]).set_aside}
    assert {f"failed: {cell.reason}" for cell in done.failed} == aside

    (here / "mended").touch()
    again, events = conducted(*models)
    assert len(again.runs) == 3
    assert again.failed == ()
    assert [e.reused for e in events if isinstance(e, RunDone)] == [False, False, True]
    for cell in found.values():
        assert not failures(Path(cell.record).parent)
        assert Path(cell.record + ".old").exists()
    assert load([Path("runs")]).set_aside == ()


def test_a_cell_that_hangs_is_ended_though_it_heeds_no_signal(here: Path) -> None:
    done, _ = conducted("hanging", timeout_s=10.0)
    assert [cell.reason for cell in done.failed] == ["it took longer than 10 s"]
    assert done.rendered is None
    assert done.runs == ()


def test_a_cell_over_its_time_keeps_what_it_trained(here: Path) -> None:
    """Its checkpoint is there, and a repeat goes on from it without being asked."""
    for seconds in (10.0, 20.0, 40.0):  # until it has begun to train, on a slow machine too
        done, _ = conducted("slow", epochs=200, timeout_s=seconds)
        (cell,) = done.failed
        assert cell.reason == f"it took longer than {seconds:g} s"
        folder = Path(cell.record).parent
        if list(folder.glob("checkpoint-*.ckpt")):
            break
    assert not (folder / "writer.lock").exists()
    (here / "mended").touch()
    again, events = conducted("slow", epochs=200)
    assert again.failed == ()
    epochs = [event.facts.epoch for event in events if isinstance(event, EpochDone)]
    assert 1 <= epochs[0] < 200
    assert epochs[-1] == 200
    steps = json.loads((folder / "run.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in steps] == list(range(1, 201))


def test_an_unfinished_run_is_refused_before_any_other_is_trained(here: Path) -> None:
    dataset = data.load(experiment("slow").data)
    (model,) = conduct.models(experiment("slow"), dataset)
    name = conduct.run_spec(experiment("slow"), "cpu", model, 0).folder_name()
    checkpoint = here / "runs" / name / "checkpoint-000001-00000000.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(UserError, match="holds an unfinished run; give --resume or --restart"):
        conducted("tiny", "slow")
    assert [path.name for path in Path("runs").iterdir()] == [checkpoint.parent.name]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_passed_on_and_the_run_saved(here: Path, name: str) -> None:
    def send() -> None:
        wait_for(here / "slow")
        os.kill(os.getpid(), getattr(signal, name))

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    with pytest.raises(Preempted, match=rf"{name}: stopped in epoch 1, step \d of 2 and saved"):
        conducted("slow", "tiny", epochs=500)
    (folder,) = (here / "runs").iterdir()
    assert list(folder.glob("checkpoint-*.ckpt"))
    assert not list(folder.glob("failure-*"))
    assert not (here / "out").exists()


CONDUCT = """
import sys
sys.path[:0] = [{root!r}]
import senet
from bench.execute import process
from tests.factories import tiny_cell
senet.MODELS |= tiny_cell.MODELS
process.COMMAND = {command!r}
from bench.cli.app import app
app(["run", "cells.toml"])
"""


def test_a_second_signal_ends_all_at_once(here: Path) -> None:
    (here / "cells.toml").write_text(EXPERIMENT.format(models='"hanging"', epochs=1))
    code = CONDUCT.format(root=str(ROOT), command=TINY_CELL)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(here / "hanging")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
    (lock,) = (here / "runs" / "cells").glob("*/writer.lock")
    pid = json.loads(lock.read_text())["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=10)  # raises TimeoutExpired if it lives on


def wait_for(path: Path, seconds: float = 180.0) -> None:
    """Wait until a file is there; fail when that takes too long."""
    for _ in range(round(seconds / 0.05)):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} never came")


def test_an_experiment_times_the_weights_of_its_runs(here: Path) -> None:
    """The sitting reads the file that the run left: when that is damaged there is no sitting."""
    profile = ProfileEntry(
        batch_sizes=(2,), memory=False, breakdown=False, timing=TimingSpec(max_s=0.02)
    )
    with_profile = experiment("tiny").model_copy(update={"profile": profile})
    events: list[Event] = []
    done = conduct.conduct(with_profile, Path("runs"), Path("out"), emit=events.append)
    assert done.failed == ()
    (row,) = done.profiles
    (run,) = done.runs
    assert row.run_id == run.id
    shutil.rmtree(Path("runs") / "profiles")
    (Path("runs") / run.id / "weights.safetensors").write_bytes(b"damaged")
    again = conduct.conduct(with_profile, Path("runs"), Path("out"), emit=events.append)
    (failed,) = again.failed
    assert failed.name.startswith("profile-")
    assert "weights.safetensors" in failed.reason


DATA = DataSpec(name="folder", data_dir="d\udcfd")
SPEC = RunSpec(model=ModelSpec(name="tiny"), data=DATA, recipe=Recipe(name="r"))
JOBS = (
    TrainJob(SPEC, "resume", Path("r\udcff")),
    ProfileJob(
        ProfileSpec(models=(SPEC.model,)),
        ((SPEC.model, "id"),),
        ((SPEC.model, "w\udcfe é%2.pt"),),
        out=Path("p"),
    ),
)


def test_events_cross_from_process_to_process_unchanged() -> None:
    """The folder too, which need not be text."""
    done = RunDone(make.run_record(), str(JOBS[0].folder), reused=False)
    for event in (StepDone(3, 17), JobFailed("é", "why\n", "x.json"), done):
        assert decode(encode(event), JOBS[0].folder) == event
        assert "\n" not in encode(event)


def test_jobs_cross_from_process_to_process_unchanged() -> None:
    for job in JOBS:
        assert read_job(job_text(job), job.out) == job
        assert "\n" not in job_text(job)
