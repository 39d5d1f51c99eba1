"""One writer for a run's folder: a file that names the process which is writing there.

The file alone decides, so that it holds over network file systems. On one machine its owner is
looked up by process id and start; an owner elsewhere must show that it lives by touching the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.compute import distributed
from bench.compute.distributed import ALONE, Group
from bench.errors import UserError
from bench.record.files import missing_folders, remove_empty

if os.name == "posix":
    import fcntl


LOCK = "writer.lock"
TOUCH_EVERY_S = 30.0
STALE_AFTER_S = 600.0  # without a touch from another machine
SAME_START_S = 5.0  # a system's idea of when it was started moves as its clock is set


@dataclass(frozen=True)
class Owner:
    """A process: its id, when it started (seconds since 1970), on which machine."""

    pid: int
    started: float
    host: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, started {since}"


def myself() -> Owner:
    """Return this process."""
    return Owner(os.getpid(), psutil.Process().create_time(), socket.gethostname())


@contextlib.contextmanager
def held(folder: Path, group: Group = ALONE) -> Iterator[None]:
    """Be the only writer of ``folder``, which is made, inside the block; the first of a group is.

    Raises UserError that names the owner when there is another. The lock of a process that is gone
    is taken over.
    """
    made = missing_folders(folder)
    distributed.on_first(group, lambda: _acquire(folder / LOCK))
    if not group.is_first:
        yield
        return
    ended = threading.Event()
    touching = threading.Thread(target=_touch, args=(folder / LOCK, ended), daemon=True)
    touching.start()
    try:
        yield
    finally:
        ended.set()
        _release(folder, made)


def _acquire(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_with(path) as file:
            owner = _read(file)
            if owner is not None and _is_alive(owner, os.fstat(file).st_mtime):
                raise UserError(
                    f"{path.parent} is being written by {owner}; if that is not so, delete {path}"
                )
            _write(file, myself())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


@contextlib.contextmanager
def _alone_with(path: Path) -> Iterator[int]:
    """Open the file, made if need be, for reading and writing; one process at a time does."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if os.name == "posix":
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.lockf(file, fcntl.LOCK_EX)
            if _is_still(path, file):
                yield file
                return
        finally:
            os.close(file)


def _is_still(path: Path, file: int) -> bool:
    """Say whether the open file is the one at ``path``: its last owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _read(file: int) -> Owner | None:
    """Return the owner that the file names; None for a file that is new, torn or foreign."""
    try:
        facts = json.loads(os.pread(file, 4096, 0) if os.name == "posix" else os.read(file, 4096))
        return Owner(int(facts["pid"]), float(facts["started"]), str(facts["host"]))
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: int, owner: Owner) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(asdict(owner)).encode() + b"\n")
    os.fsync(file)


def _is_alive(owner: Owner, touched: float) -> bool:
    """Say whether a lock's owner may still be writing."""
    if owner.host != socket.gethostname():
        return time.time() - touched < STALE_AFTER_S
    try:
        process = psutil.Process(owner.pid)
        started, status = process.create_time(), process.status()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    if status == psutil.STATUS_ZOMBIE:  # ended, but whoever started it has not asked how
        return False
    return abs(started - owner.started) < SAME_START_S  # else its number was given to another


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCH_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _release(folder: Path, made: list[Path]) -> None:
    """Remove the lock if it is still this process', and what was made for it if that is empty."""
    with contextlib.suppress(OSError):
        with _alone_with(folder / LOCK) as file:
            owner = _read(file)
            if owner is not None and (owner.pid, owner.host) == (os.getpid(), socket.gethostname()):
                (folder / LOCK).unlink()
        remove_empty(dict.fromkeys((folder, *made)))
