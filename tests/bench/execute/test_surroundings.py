"""Where a command runs: foreign folders, other users, full and read-only disks, poor terminals."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import record_factory as make
import small_disk

from bench.errors import UserError
from bench.execute import lock
from bench.record import read_write
from bench.record.files import check_writable
from bench.report.read.load import load

ROOT = Path(__file__).parents[3]
NOBODY = 65534
EXPERIMENT = """
name = "all-at-once"
models = ["resnet18"]
stems = ["imagenet"]
device = "cpu"
[data]
name = "shapes"
train_limit = 32
test_limit = 20
[recipe]
base = "quick"
epochs = 1
[profile]
batch_sizes = [1]
memory = false
breakdown = false
timing = { min_blocks = 3, block_s = 0.01, max_s = 0.2, max_warmup_s = 0.1, single_stream_s = 0.1 }
"""


def test_a_whole_experiment_in_adverse_surroundings(tmp_path: Path) -> None:
    """No home, no network, a dumb terminal, ASCII only, umask 077, a folder named ein Ordner ü."""
    folder = tmp_path / "ein Ordner ü"
    folder.mkdir()
    (folder / "mine.toml").write_text(EXPERIMENT)
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "run",
            "mine.toml",
            "--runs",
            "Läufe 1",
            "--out",
            "Bericht",
        ],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TERM": "dumb",
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            **proxies,
        },
        umask=0o077,
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    assert b"\x1b[" not in done.stdout
    assert (folder / "Bericht" / "report.md").is_file()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "mine.toml"]
    assert {stat.filemode(path.stat().st_mode) for path in files} == {"-rw-------"}
    assert not [path for path in files if path.name.endswith((".tmp", ".lock"))]


def as_nobody(function: Callable[[], None]) -> str:
    """Call a function in a process of a user who owns nothing; return what it raised."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        said = "nothing"
        try:
            function()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """Return a folder with records that everybody may read and only its owner write."""
    for path in (tmp_path, *tmp_path.parents):
        if path.is_relative_to(Path(tempfile.gettempdir()) / "pytest-of-root"):
            path.chmod(0o755)
    folder = make.write_example(tmp_path / "records", num_test=40)
    load([folder])  # imports what the other user may not be able to
    return folder


def test_who_does_not_own_a_folder_is_told_and_can_read_it(open_to_all: Path) -> None:
    path = open_to_all / "new.json"
    example = make.run_record()
    denied = "UserError: cannot write"
    assert as_nobody(lambda: check_writable(open_to_all)).startswith(f"{denied} to {open_to_all}: ")
    assert as_nobody(lambda: read_write.write_record(path, example)).startswith(
        f"{denied} {path}: "
    )
    assert as_nobody(lambda: lock.held(open_to_all).__enter__()).startswith(denied)
    assert as_nobody(lambda: load([open_to_all]) and None) == "nothing"
    assert not path.exists()


def test_files_that_may_not_be_read_are_set_aside_by_name(open_to_all: Path) -> None:
    secret = next(open_to_all.rglob("run.json"))
    secret.chmod(0o600)

    def named() -> None:
        (aside,) = load([open_to_all]).set_aside
        raise KeyError(aside.path, aside.reason)

    assert as_nobody(named) == f"KeyError: ('{secret}', 'Permission denied')"


def test_a_read_only_disk_is_said(tmp_path: Path) -> None:
    with small_disk.mounted(tmp_path / "disk", "ro,size=100k") as folder:
        for call in (
            lambda: check_writable(folder / "runs"),
            lambda: read_write.write_record(folder / "run.json", make.run_record()),
            lambda: contextlib.ExitStack().enter_context(lock.held(folder / "run")),
        ):
            with pytest.raises(UserError, match=r"cannot write .*: Read-only file system"):
                call()
