"""One writer for a run's folder: a file that names the process which is writing there.

Two things tell that an owner lives. It holds the system's lock on the file for as long as it
writes: whoever gets that lock under the same kernel knows that the owner has gone, in whichever
container it was. And it touches the file, for machines that cannot see each other's locks; how old
that touch is, is judged by the clock of whoever keeps the files, because those of two machines
differ. The package filelock has either of the two, never both, and names nobody.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import tempfile
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
BUSY = "is being written by"
TOUCH_EVERY_S = 30.0
STALE_AFTER_S = 600.0  # without a touch from another machine
WAIT_S = 1.0  # for one that only looks whose the lock is
SAME_START_S = 5.0  # a system's idea of when it was started moves as its clock is set
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
HELD: set[Path] = set()  # by this process, which the system's lock does not keep from itself


@dataclass(frozen=True)
class Owner:
    """A process: its id, when it started (seconds since 1970), on which machine.

    ``boot`` names one start of a machine, ``namespace`` the processes among which the id is
    unique, and ``ticks`` is the start by a clock that nobody sets; None where the system does not
    tell. ``locked`` says whether the owner holds the system's lock on the file.
    """

    pid: int
    started: float
    host: str
    boot: str | None = None
    namespace: str | None = None
    ticks: int | None = None
    locked: bool = False

    def __str__(self) -> str:
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        except (ValueError, OverflowError, OSError):  # no moment that a calendar has
            since = "nobody knows when"
        return f"process {self.pid} on {self.host}, started {since}"


def myself(*, locked: bool = False) -> Owner:
    """Return this process."""
    return Owner(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        host=socket.gethostname(),
        boot=_boot(),
        namespace=_namespace(),
        ticks=ticks(os.getpid()),
        locked=locked,
    )


def _boot() -> str | None:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _namespace() -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def ticks(pid: int) -> int | None:
    """Return the start of a process in ticks since the machine's, field 22 of Linux' stat file."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(facts.rpartition(")")[2].split()[19])  # behind the name, which may hold spaces
    return None


@contextlib.contextmanager
def held(folder: Path, group: Group = ALONE) -> Iterator[None]:
    """Be the only writer of ``folder``, which is made, inside the block; the first of a group is.

    Raises UserError that names the owner when there is another. The lock of a process that is gone
    is taken over.
    """
    made = missing_folders(folder)
    file = distributed.on_first(group, lambda: _acquire(folder / LOCK))
    if not group.is_first:
        yield
        return
    ended = threading.Event()
    touching = threading.Thread(target=_touch, args=(file, ended), daemon=True)
    touching.start()
    try:
        yield
    finally:
        ended.set()
        touching.join()  # so that it touches no file that has been given the same number
        _release(folder, file, made)


def _acquire(path: Path) -> int:
    """Return the open lock file, which names this process and is locked while it is open."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = path.parent.resolve() / path.name
        if key in HELD:  # to close the file once more would give the system's lock up
            raise _taken(path, myself())
        file, locked = _opened(path)
        try:
            owner = _read(file)
            if owner is not None and _is_alive(owner, _age_s(path, file), locked):
                raise _taken(path, owner)
            _write(file, myself(locked=locked))
        except BaseException:
            os.close(file)
            raise
        HELD.add(key)
        return file
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _taken(path: Path, owner: Owner | None) -> UserError:
    who = owner or "another process"
    return UserError(f"{path.parent} {BUSY} {who}; if that is not so, delete {path}")


def _opened(path: Path) -> tuple[int, bool]:
    """Return the open file, made if need be, and whether the system has locked it for this process.

    Raises UserError while another process holds its lock; one that only looks whose it is gives it
    up at once, and is waited for.
    """
    give_up = time.monotonic() + WAIT_S
    while True:
        file = _open(path)
        try:
            locked = _locked(file)
            if _is_still(path, file):
                return file, locked
        except BlockingIOError:
            if time.monotonic() > give_up:
                owner = _read(file)
                os.close(file)
                raise _taken(path, owner) from None
        os.close(file)
        time.sleep(0.01)


def _open(path: Path) -> int:
    """Open the lock, made if need be; OSError for what is no file, and for a link to another."""
    # A pipe would be waited for, and what a link leads to overwritten.
    file = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "it is no regular file")


def _locked(file: int) -> bool:
    """Lock an open file; False where there are no locks, BlockingIOError where another has it."""
    if os.name != "posix":
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError(error.errno, error.strerror) from None
        return False
    return True


def _is_still(path: Path, file: int) -> bool:
    """Say whether the open file is the one at ``path``: its last owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _read(file: int) -> Owner | None:
    """Return the owner that the file names; None for a file that is new, torn or foreign."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        facts = json.loads(os.read(file, 4096))
        return Owner(
            pid=int(facts["pid"]),
            started=float(facts["started"]),
            host=str(facts["host"]),
            boot=facts.get("boot"),
            namespace=facts.get("namespace"),
            ticks=facts.get("ticks"),
            locked=bool(facts.get("locked")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _write(file: int, owner: Owner) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(asdict(owner)).encode() + b"\n")
    os.fsync(file)


def _is_alive(owner: Owner, age_s: float, locked: bool) -> bool:
    """Say whether a lock's owner may still be writing; ``locked`` is for this process now."""
    here = _boot()
    is_here = owner.boot == here if owner.boot and here else owner.host == socket.gethostname()
    if is_here and locked and owner.locked:
        return False  # or it would still have the lock
    if is_here and owner.namespace in (None, _namespace()):
        return _is_running(owner)
    return age_s < STALE_AFTER_S


def _is_running(owner: Owner) -> bool:
    """Say whether a process that this one can see is still the owner."""
    try:
        process = psutil.Process(owner.pid)
        started, status = process.create_time(), process.status()
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.AccessDenied:
        return True
    if status == psutil.STATUS_ZOMBIE:  # ended, but whoever started it has not asked how
        return False
    if owner.ticks is not None:  # else its number was given to another
        return ticks(owner.pid) == owner.ticks
    return abs(started - owner.started) < SAME_START_S


def free(folder: Path, host: str) -> None:
    """Remove the lock of a process on another machine, of which its scheduler says it is dead.

    One on this machine tells itself whether its owner lives.
    """
    path = folder / LOCK
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            owner = _read(file)
        finally:
            os.close(file)
        if owner is not None and owner.host == host != socket.gethostname():
            path.unlink()


def _age_s(path: Path, file: int) -> float:
    """Return how long ago the lock was touched, by the clock of whoever keeps the files."""
    with tempfile.TemporaryFile(dir=path.parent) as probe:
        probe.write(b"now")
        probe.flush()
        return os.fstat(probe.fileno()).st_mtime - os.fstat(file).st_mtime


def _touch(file: int, ended: threading.Event) -> None:
    while not ended.wait(TOUCH_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(file)


def _release(folder: Path, file: int, made: list[Path]) -> None:
    """Remove the lock if it is still this process', and what was made for it if that is empty."""
    path = folder / LOCK
    with contextlib.suppress(OSError):
        owner = _read(file)
        if owner is not None and owner == myself(locked=owner.locked) and _is_still(path, file):
            path.unlink()
    os.close(file)
    HELD.discard(path.parent.resolve() / path.name)
    remove_empty(dict.fromkeys((folder, *made)))
