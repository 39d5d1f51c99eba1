"""One writer for a folder: named to others, forgotten when gone, never taken for another."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.execute import lock

FORK = multiprocessing.get_context("fork")


def write_owner(folder: Path, **changes: Any) -> Path:
    """Write the lock of this process, or of one that differs from it."""
    owner = vars(lock.myself()) | changes
    (folder / lock.LOCK).write_text(json.dumps(owner))
    return folder / lock.LOCK


def test_the_lock_is_there_inside_the_block_alone_and_names_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock.held(folder):
        facts = json.loads((folder / lock.LOCK).read_text())
        assert (facts["pid"], facts["host"]) == (os.getpid(), socket.gethostname())
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_folders_that_were_made_for_it_and_stayed_empty_are_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.held(tmp_path / "runs" / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def _hold(folder: Path, tell: Connection) -> None:
    with lock.held(folder):
        tell.send("held")
        time.sleep(600)


def holding(folder: Path) -> Any:
    """Return another process that holds the folder's lock."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=_hold, args=(folder, there), daemon=True)
    process.start()
    assert here.recv() == "held"
    return process


def test_a_second_writer_is_refused_with_the_owners_process_and_host(tmp_path: Path) -> None:
    process = holding(tmp_path)
    said = f"is being written by process {process.pid} on {socket.gethostname()}, started 20"
    for _ in range(2):
        with pytest.raises(UserError, match=said), lock.held(tmp_path):
            pytest.fail("two writers")
    assert (tmp_path / lock.LOCK).exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    process = holding(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / lock.LOCK).exists()
    with lock.held(tmp_path):
        assert json.loads((tmp_path / lock.LOCK).read_text())["pid"] == os.getpid()


def test_a_process_that_ended_unnoticed_is_gone(tmp_path: Path) -> None:
    """Its parent has not waited for it: the system still lists it."""
    process = holding(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with lock.held(tmp_path):
        pass
    process.join()


def test_a_process_that_was_given_the_same_number_is_another(tmp_path: Path) -> None:
    """The owner started long before the process that has its number now."""
    write_owner(tmp_path, pid=os.getppid(), started=time.time() - 1e7)
    with lock.held(tmp_path):
        pass
    assert not (tmp_path / lock.LOCK).exists()


@pytest.mark.parametrize(("age_s", "is_stale"), [(0, False), (500, False), (700, True)])
def test_an_owner_on_another_machine_counts_while_it_touches_the_file(
    tmp_path: Path, age_s: float, is_stale: bool
) -> None:
    path = write_owner(tmp_path, host="elsewhere", boot="another")
    os.utime(path, (time.time() - age_s,) * 2)
    if is_stale:
        with lock.held(tmp_path):
            pass
    else:
        with pytest.raises(UserError, match=rf"on elsewhere, .*; if that is not so, delete {path}"):
            lock.held(tmp_path).__enter__()


def test_two_machines_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """The other started at another time: that no process here has its number says nothing."""
    write_owner(tmp_path, pid=2**22 - 1, boot="another")
    with pytest.raises(UserError, match="is being written"):
        lock.held(tmp_path).__enter__()


def test_a_process_of_another_container_counts_while_it_touches_the_file(tmp_path: Path) -> None:
    """Where the file system has no locks, a number of another namespace cannot be looked up."""
    path = write_owner(tmp_path, pid=2**22 - 1, namespace="pid:[1]")
    with pytest.raises(UserError, match="is being written"):
        lock.held(tmp_path).__enter__()
    os.utime(path, (time.time() - 700,) * 2)
    with lock.held(tmp_path):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from bench.execute import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_holder_in_another_namespace_is_seen_by_its_lock(tmp_path: Path) -> None:
    """As number 1 of its own processes it looks like one here that started long ago."""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HOLDER]
    with subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip("this user cannot make a namespace of processes")
        os.utime(tmp_path / lock.LOCK, (0, 0))  # nor does its last touch matter
        with pytest.raises(UserError, match="is being written"):
            lock.held(tmp_path).__enter__()
        holder.kill()
    with lock.held(tmp_path):
        pass


def test_a_clock_that_was_set_makes_no_other_process_of_the_owner(tmp_path: Path) -> None:
    write_owner(tmp_path, started=lock.myself().started - 10)
    with pytest.raises(UserError, match="is being written"):
        lock.held(tmp_path).__enter__()


@pytest.mark.parametrize(("touched_s", "is_stale"), [(-690, False), (-1310, True), (690, False)])
def test_an_age_is_judged_by_the_file_servers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched_s: float, is_stale: bool
) -> None:
    """The server is 700 s behind: touched 610 s ago is stale, touched now is not."""
    path = write_owner(tmp_path, boot="another")
    os.utime(path, (time.time() + touched_s,) * 2)

    class Probe:
        def __init__(self, folder: Path) -> None:
            self.file = tempfile.NamedTemporaryFile(dir=folder)  # noqa: SIM115  # closed in exit

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, text: bytes) -> None:
            self.file.write(text)

        def flush(self) -> None:
            self.file.flush()
            os.utime(self.file.fileno(), (time.time() - 700,) * 2)

        def fileno(self) -> int:
            return self.file.fileno()

    monkeypatch.setattr(lock.tempfile, "TemporaryFile", lambda **given: Probe(given["dir"]))
    if is_stale:
        lock._acquire(path)
    else:
        with pytest.raises(UserError, match="is being written"):
            lock._acquire(path)


def test_one_process_does_not_write_twice(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
            lock.held(tmp_path).__enter__()
        assert (tmp_path / lock.LOCK).exists()
    with lock.held(tmp_path):
        pass


def test_a_lock_of_an_earlier_release_is_respected(tmp_path: Path) -> None:
    """It names process, start and host alone."""
    for pid, started in ((os.getpid(), lock.myself().started), (2**22 - 1, 1.0)):
        facts = {"pid": pid, "started": started, "host": socket.gethostname()}
        (tmp_path / lock.LOCK).write_text(json.dumps(facts))
        if pid == os.getpid():
            with pytest.raises(UserError, match="is being written"):
                lock.held(tmp_path).__enter__()
        else:
            with lock.held(tmp_path):
                pass


def test_an_owner_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "TOUCH_EVERY_S", 0.01)
    with lock.held(tmp_path):
        os.utime(tmp_path / lock.LOCK, (0, 0))
        for _ in range(500):
            if (tmp_path / lock.LOCK).stat().st_mtime > 1:
                return
            time.sleep(0.01)
    pytest.fail("it was never touched")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "1e999", '{"pid": 1e999}', '{"pid": "x"}', '{"pid": 1}', "\x00" * 50]
)
def test_a_torn_lock_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.LOCK).write_text(content)
    with lock.held(tmp_path):
        pass


def test_the_lock_of_another_is_left_alone(tmp_path: Path) -> None:
    """Whoever took a lock over in the meantime keeps it."""
    with lock.held(tmp_path):
        path = write_owner(tmp_path, host="elsewhere")
    assert path.exists()


def _contend(folder: Path, start: Any, turns: int) -> None:
    """Take the lock so many times; leave a mark for every time that nobody else was inside."""
    start.wait()
    done = 0
    while done < turns:
        try:
            with lock.held(folder / "run"):
                with open(folder / "inside", "x"):
                    pass
                (folder / "inside").unlink()
                with open(folder / "marks", "a") as file:
                    file.write("x")
                done += 1
                if done == turns:
                    os.kill(os.getpid(), signal.SIGKILL)
        except UserError:
            time.sleep(0.001)


def test_eight_processes_are_never_inside_together(tmp_path: Path) -> None:
    """Each takes the lock 20 times and is killed with it the last time."""
    start = FORK.Event()
    processes = [FORK.Process(target=_contend, args=(tmp_path, start, 20)) for _ in range(8)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(timeout=20)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 8
    assert (tmp_path / "marks").read_text() == "x" * 160


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_refused_and_left(tmp_path: Path, kind: str) -> None:
    """Above all nothing is written into what a link leads to."""
    path, precious = tmp_path / lock.LOCK, tmp_path / "precious"
    precious.write_text("kept")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(precious if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot write .*writer\.lock: "), lock.held(tmp_path):
        pytest.fail("held")
    assert precious.read_text() == "kept"
    assert os.path.lexists(path)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("started", [1e300, float("inf"), float("nan")])
def test_an_owner_from_no_time_is_named_all_the_same(tmp_path: Path, started: float) -> None:
    write_owner(tmp_path, host="elsewhere", boot="another", started=started)
    with pytest.raises(UserError, match="on elsewhere, started nobody knows"), lock.held(tmp_path):
        pytest.fail("held")
