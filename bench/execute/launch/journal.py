"""What happens to a job, as a file in its folder: written by who does it, read from anywhere."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from bench.events import Emit, Event, JobBegan, JobEnded, RunDone
from bench.execute.jobs import decode, teller
from bench.signals import EXIT_PREEMPTED, Preempted, Stopped

EVENTS = "events.jsonl"
STEP_EVERY_S = 1.0  # more often nobody looks at a file


@contextlib.contextmanager
def journal(folder: Path, emit: Emit | None = None) -> Iterator[Emit]:
    """Yield what writes events into a job's folder, and hands them on to ``emit``.

    The file has its first line when something happens: what was found finished, or is refused
    because somebody else is at work there, leaves no trace. How the block ended is written unless
    a `JobEnded` told it. A file that cannot be written ends no job.
    """
    with contextlib.ExitStack() as stack:
        begin, ended = time.monotonic(), False
        write: Emit | None = None

        def note(event: Event) -> None:
            nonlocal write, ended
            if write is None:
                if isinstance(event, RunDone | JobEnded):
                    return
                file = stack.enter_context((folder / EVENTS).open("a", encoding="utf-8"))
                write = teller(file, STEP_EVERY_S)
                if not isinstance(event, JobBegan):
                    write(JobBegan(socket.gethostname(), os.getpid(), time.time()))
            ended = isinstance(event, JobEnded)
            write(event)

        def tell(event: Event) -> None:
            with contextlib.suppress(OSError):
                note(event)
            if emit is not None:
                emit(event)

        def end(code: int, reason: str | None) -> None:
            if not ended:
                with contextlib.suppress(OSError):
                    note(JobEnded(code, reason, time.monotonic() - begin))

        try:
            yield tell
        except (Preempted, Stopped) as reason:
            end(EXIT_PREEMPTED, str(reason))
            raise
        except BaseException as error:
            end(1, str(error) or type(error).__name__)
            raise
        end(0, None)


class Tail:
    """The events that are added to a folder's file; those before ``offset`` are known."""

    def __init__(self, folder: Path, offset: int = 0) -> None:
        self.folder, self.offset = folder, offset

    def read(self) -> Iterator[Event]:
        """Yield the events since the last time; a line that is being written is left for later."""
        try:
            with (self.folder / EVENTS).open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                yield decode(line.decode(), self.folder)
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # cut short as its node died, and another went on behind it


def size(folder: Path) -> int:
    """Return how many bytes of events there are."""
    try:
        return (folder / EVENTS).stat().st_size
    except FileNotFoundError:
        return 0
