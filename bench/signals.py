"""Let a long job end between two steps when it is asked to, instead of anywhere."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the job may be resumed
_ASKING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


class Preempted(Exception):
    """The job was asked to end, and has saved what is needed to go on."""


class Ended(BaseException):
    """The process was asked to end: it tidies up behind itself, then ends by that signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopped(KeyboardInterrupt):
    """The job was asked to end where there is nothing to save, and can be begun again or go on."""


@contextlib.contextmanager
def tidily_ended() -> Iterator[None]:
    """Let a first signal unwind the block, which tidies up, and then end the process.

    A second one ends it at once; one that the process was started to ignore stays ignored. The
    other functions here, inside of the block, deal with a signal in their own ways.
    """
    try:
        with _handling(_unwind, but_ignored=True) as former:
            try:
                yield
            finally:  # what came once ends the process at once from now on, and raises no more
                came = [number for number in former if signal.getsignal(number) is signal.SIG_DFL]
                former |= dict.fromkeys(came, signal.SIG_DFL)
    except Ended as ended:
        os.kill(os.getpid(), ended.number)


def _unwind(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)


def are_awaited() -> bool:
    """Tell whether somebody saves what there is to save when a signal asks for an end."""
    return signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN, _unwind)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the block is left: for what takes a moment and must be whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    try:
        with _handling(lambda number, _: received.append(number), but_ignored=True):
            yield
    finally:
        for number in received[:1]:
            os.kill(os.getpid(), number)


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
    *,
    but_ignored: bool = False,
) -> Iterator[dict[signal.Signals, Any]]:
    """Handle the signals that ask for an end inside the block; SIGHUP not where it is ignored.

    Nor any other that is, if ``but_ignored``. Yields what is to handle them afterwards.
    """
    numbers = [getattr(signal, name) for name in _ASKING if hasattr(signal, name)]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:  # nohup: the job is to outlive its terminal
        if but_ignored or number == getattr(signal, "SIGHUP", None):
            numbers.remove(number)
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield former
    finally:
        for number, before in former.items():
            signal.signal(number, before)
