"""Let a long job end between two steps when it is asked to, instead of anywhere."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the job may be resumed
_ASKING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


class Preempted(Exception):
    """The job was asked to end, and has saved what is needed to go on."""


class Stopped(KeyboardInterrupt):
    """The job was asked to end where there is nothing to save, and can be begun again or go on."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside the block a first signal raises `Stopped`; a second one ends the process at once.

    `stop_requests` and `forwarded`, inside of it, deal with a signal in their own ways.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(f"{signal.Signals(number).name}: stopped between steps; --resume goes on")

    with _handling(stop):
        yield


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Inside the block, a first signal is only noted; a second one ends the process at once.

    Yields a function that returns the name of the signal received, or None. Outside the main
    thread, where signals cannot be handled, it always returns None.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)

    with _handling(note):
        yield lambda: received[0] if received else None


@contextlib.contextmanager
def forwarded(process: subprocess.Popen[str]) -> Iterator[Callable[[], str | None]]:
    """Inside the block, pass signals that ask for an end on to a process.

    A second one ends the process, which should lead a session of its own, and this one at once.
    Yields a function that returns the name of the first signal, or None. Outside the main thread
    nothing is passed on.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            process.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    with _handling(pass_on):
        yield lambda: signal.Signals(received[0]).name if received else None


@contextlib.contextmanager
def by_default() -> Iterator[None]:
    """Inside the block the signals that ask for an end do at once what they do to any process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handling(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers,
) -> Iterator[None]:
    """Handle the signals that ask for an end inside the block."""
    numbers = [getattr(signal, name) for name in _ASKING if hasattr(signal, name)]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN:
        numbers.remove(hangup)  # nohup: the job is to outlive its terminal
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
