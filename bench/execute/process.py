"""Do a job in a process of its own, so that whatever becomes of it stays there.

The process tells its events; they are handed on. It ends with its time, and with everything that
it started; what it wrote last is kept.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import IO

from bench.events import Emit
from bench.execute.jobs import Job, decode, job_text
from bench.signals import EXIT_PREEMPTED, Preempted, forwarded

COMMAND = (sys.executable, "-m", "bench.execute.jobs")
GRACE_S = 20.0  # for a job whose time is over to save a checkpoint
LAST_LINES = 20
_SIGNALS = tuple(f"{number.name}: " for number in signal.Signals)


@dataclass(frozen=True)
class Ended:
    """How a job's process ended: None, or the ``reason`` in one line; its last lines.

    ``code`` is its exit code, negative for the signal that ended it, None when its time was over.
    """

    reason: str | None
    wall_s: float
    last_lines: tuple[str, ...]
    code: int | None = 0


def carry_out(job: Job, emit: Emit, timeout_s: float | None = None) -> Ended:
    """Do a job in a process of its own, for at most ``timeout_s`` seconds; say how that ended.

    SIGINT, SIGTERM and SIGUSR1 are passed on to it; `Preempted` is raised when it has ended.
    """
    begin, lines = monotonic(), deque[str](maxlen=LAST_LINES)
    process = subprocess.Popen(
        (*COMMAND, str(job.out), job.name),  # by its name others tell who shares the machine
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches it once, and by way of this process
    )
    with _cleaned_up(process), _time_limit(process, timeout_s) as over, forwarded(process) as sent:
        reading = _in_background(lambda: _read_lines(process.stderr, lines))
        _in_background(lambda: _end_with(process))
        _hand_on(process, job, emit)
        code = process.wait()
        reading.join()
    if sent():
        last = lines[-1] if code == EXIT_PREEMPTED and lines else "stopped; --resume goes on"
        raise Preempted(last if last.startswith(f"{sent()}") else f"{sent()}: {last}")
    wall_s, last_lines = monotonic() - begin, tuple(lines)
    if over():
        return Ended(f"it took longer than {timeout_s:g} s", wall_s, last_lines, None)
    return Ended(reason_of(code, lines), wall_s, last_lines, code)


def _hand_on(process: subprocess.Popen[str], job: Job, emit: Emit) -> None:
    """Give the process its job and tell its events until there are no more."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as file:
        file.write(job_text(job) + "\n")
    for line in process.stdout:
        try:
            event = decode(line, job.folder)
        except (ValueError, TypeError, KeyError):
            continue  # a line that was cut short as the process died
        emit(event)


def _read_lines(stream: IO[str] | None, lines: deque[str]) -> None:
    """Keep the last lines, and show all of them as they come."""
    assert stream is not None
    for line in stream:
        lines.append(line.rstrip("\n"))
        if not line.startswith(("error: ", *_SIGNALS)):  # which whoever reads the end says
            sys.stderr.write(line)


def reason_of(code: int, lines: Sequence[str]) -> str | None:
    """Return in one line why a process that was not stopped ended so; None for success."""
    if code == 0:
        return None
    last = _last_word(lines)
    if last.startswith("error: "):
        return last.removeprefix("error: ")
    how = f"exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"ended by {signal.Signals(-code).name}"
        if code == -9:
            how += ", as the system does when memory runs out"
    return f"{how}: {last}" if last else how


def _last_word(lines: Sequence[str]) -> str:
    """Return the line that says most: the first after a traceback's frames, else the last."""
    said = [line for line in lines if line.strip()]
    frames = [index for index, line in enumerate(said) if line.startswith("  ")]
    if any(line.startswith("  File ") for line in said) and frames[-1] + 1 < len(said):
        return said[frames[-1] + 1].strip()
    return said[-1].strip() if said else ""


@contextlib.contextmanager
def _time_limit(
    process: subprocess.Popen[str], timeout_s: float | None
) -> Iterator[Callable[[], bool]]:
    """Stop the process when its time is over: SIGTERM first, for it to save, then SIGKILL."""
    is_over = threading.Event()

    def stop() -> None:
        is_over.set()
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            kill(process)

    timer = None if timeout_s is None else threading.Timer(timeout_s, stop)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield is_over.is_set
    finally:
        if timer is not None:
            timer.cancel()


@contextlib.contextmanager
def _cleaned_up(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let nothing of the process be left when the block is left, whatever happens in it."""
    try:
        yield
    finally:
        kill(process)
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def _end_with(process: subprocess.Popen[str]) -> None:
    """Once the process has ended, end what it started, which would keep its pipes open."""
    process.wait()
    kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _in_background(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread
