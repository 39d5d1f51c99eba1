"""Signals to ``senet-bench train``: saved at the next step, exit code 75; a second ends at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import record_factory

ROOT = Path(__file__).parents[2]
TRAIN = """
import sys, time
from pathlib import Path
import senet
from bench import data
from bench.train import evaluate
from bench.cli.app import app
from tests.factories import tiny_cell
def wait(*_, **__):
    Path("{where}").touch()
    time.sleep(600)
senet.MODELS |= tiny_cell.MODELS
if "{where}" == "loading":
    data.load = wait
if "{where}" == "testing":
    evaluate.predict = wait
app(sys.argv[1:])
"""
SMALL = ["--dataset", "shapes", "--train-limit", "64", "--test-limit", "20"]
SMALL += ["--recipe", "quick", "--device", "cpu"]


@contextmanager
def training(where: str, model: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Train a model in a process that has come so far that it left the file ``where``."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN.format(where=where), "train", model, *SMALL, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        for _ in range(1200):
            if Path(where).exists():
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_one_checkpoint_is_written_at_the_next_step(name: str) -> None:
    with training("slow", "slow", "--epochs", "500") as process:
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"{name}: stopped in epoch 1, step ")
    assert last.endswith(" of 2 and saved; --resume goes on")
    (folder,) = Path("runs").iterdir()
    left, events = sorted(path.name for path in folder.iterdir())
    assert left.startswith("checkpoint-000000-0000000")
    assert events == "events.jsonl"


def test_a_second_signal_ends_at_once() -> None:
    """The step that the first one would wait for never ends."""
    with training("hanging", "hanging") as process:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=20) == -signal.SIGUSR1


@pytest.mark.parametrize(("name", "where"), [("SIGTERM", "loading"), ("SIGINT", "testing")])
def test_where_no_step_is_taken_a_signal_ends_the_job_which_can_go_on(
    name: str, where: str
) -> None:
    with training(where, "tiny", "--epochs", "1") as process:
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert said.strip().splitlines()[-1] == f"{name}: stopped between steps; --resume goes on"
    assert not list(Path().rglob("writer.lock"))
    assert bool(list(Path().rglob("*.ckpt"))) == (where == "testing")


def test_a_job_started_with_nohup_outlives_its_terminal() -> None:
    """SIGHUP is ignored when it starts and stays so; SIGTERM still saves."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with training("slow", "slow", "--epochs", "500") as process:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert said.strip().splitlines()[-1].startswith("SIGTERM: stopped in epoch")


def test_a_training_that_nobody_reads_any_more_is_saved_and_ends() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN.format(where="slow"), "train", "slow", *SMALL, "--epochs=500"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while " 1/500" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=60) == 75, said
    assert list(Path("runs").rglob("*.ckpt"))


def test_ctrl_c_while_a_command_is_being_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "models"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


WRITE = """
import sys, time
from pathlib import Path
from bench import __main__
from bench.cli import app
from bench.record import files
import bench.report.write, tempfile
fill = files._fill
def slowly(*arguments):
    print("writing", flush=True)
    time.sleep({pause})
    fill(*arguments)
files._fill = slowly
def render(folders, out, *_):
    while True:
        if "{what}" == "a folder":
            with tempfile.TemporaryDirectory(dir=out):
                print("writing", flush=True)
                time.sleep(60)
        if "{what}" == "a file":
            files.write_whole(out / "0.txt", b"new")
            time.sleep(60)
        files.write_set(out, {{f"{{n}}.txt": b"new" for n in range(20)}}, without=["former.txt"])
        time.sleep(60)
if "{what}" != "a report":
    bench.report.write.render = render
__main__.main()
"""


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    """Return a process that is just writing a report."""
    Path("out").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "report", str(folder), "--out", "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def interrupted(what: str, *signals: str, folder: Path = Path()) -> tuple[int, str]:
    """Send signals to a report that is just being written; return how it ended and what it said."""
    process = started(WRITE.format(what=what, pause=0.3 if what == "a file" else 0.02), folder)
    for name in signals:
        process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_while_a_set_is_written_leaves_all_of_it(name: str) -> None:
    """Neither temporary files nor some of the new files beside some of the former ones."""
    Path("out").mkdir()
    (Path("out") / "3.txt").write_text("old")
    (Path("out") / "former.txt").write_text("old")
    code, said = interrupted("a set", name)
    expected = (130, "interrupted\n") if name == "SIGINT" else (-getattr(signal, name), "")
    assert (code, said) == expected
    found = {path.name: path.read_text() for path in Path("out").iterdir()}
    assert found == {f"{n}.txt": "new" for n in range(20)}


@pytest.mark.parametrize(("what", "num"), [("a set", 20), ("a file", 1)])
def test_several_signals_while_files_are_written_leave_all_of_them(what: str, num: int) -> None:
    code, said = interrupted(what, "SIGINT", "SIGTERM", "SIGINT", "SIGHUP")
    assert (code, said) in [(130, "interrupted\n"), (-signal.SIGTERM, ""), (-signal.SIGHUP, "")]
    assert len(list(Path("out").glob("*.txt"))) == len(list(Path("out").iterdir())) == num


def test_a_second_ctrl_c_while_the_first_is_told_raises_nothing() -> None:
    """Not even while Python itself comes to its end, which takes a while."""
    code = "import atexit, time\natexit.register(lambda: time.sleep(20))\n" + WRITE
    process = started(code.format(what="a folder", pause=0.02), Path())
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "interrupted\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_unwinds_a_command_so_that_its_temporary_files_go(name: str) -> None:
    Path("out").mkdir()
    code, said = interrupted("a folder", name)
    expected = (130, "interrupted\n") if name == "SIGINT" else (-getattr(signal, name), "")
    assert (code, said) == expected
    assert not list(Path("out").iterdir())


def test_a_report_that_is_ended_while_it_is_written_is_there_in_full(tmp_path: Path) -> None:
    record_factory.write_example(tmp_path / "records", num_test=50)
    code, said = interrupted("a report", "SIGTERM", folder=tmp_path / "records")
    assert (code, said) == (-signal.SIGTERM, "")
    names = {path.name for path in Path("out").iterdir()}
    text = (Path("out") / "report.md").read_text()
    assert {"report.html", "results.csv", *re.findall(r"\]\(([\w.-]+\.png)\)", text)} < names
    assert not [name for name in names if name.startswith(".")]
