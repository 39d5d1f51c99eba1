"""Let a long job end between two steps when it is asked to, instead of anywhere."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the job may be resumed
_ASKING = ("SIGINT", "SIGTERM", "SIGUSR1")


class Preempted(Exception):
    """The job was asked to end, and has saved what is needed to go on."""


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

    numbers = [getattr(signal, name) for name in _ASKING if hasattr(signal, name)]
    former = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
