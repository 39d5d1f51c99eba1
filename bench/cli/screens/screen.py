"""The progress of long work: a live display in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from bench.cli.screens.pace import Count, Pace, duration, epoch_parts, headline, other
from bench.signals import are_awaited

if TYPE_CHECKING:
    from bench.events import Event

PLAIN_EVERY_S = 30.0


@contextlib.contextmanager
def screen(*, stderr: bool = False, total: int | None = None) -> Iterator[Callable[[Event], None]]:
    """Show events while the block runs; ``stderr`` keeps stdout for what is printed after it.

    Of ``total`` trainings each says which it is: [2/5].
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        from bench.cli.screens.live import live

        with live(console, Count(total)) as emit:
            yield emit
    else:
        yield _plain(_while_read(stderr=stderr), Count(total))


def _while_read(*, stderr: bool) -> Callable[[str], None]:
    """Return what writes lines until nobody reads them: then work that can be saved is to end."""
    stream = sys.stderr if stderr else sys.stdout

    def write(line: str) -> None:
        try:
            typer.echo(line, err=stderr)
        except BrokenPipeError:
            if not are_awaited():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            os.kill(os.getpid(), signal.SIGTERM)

    return write


def plain(write: Callable[[str], None]) -> Callable[[Event], None]:
    """Return what writes events in lines, as where there is no terminal."""
    return _plain(write, Count(None))


@contextlib.contextmanager
def silence() -> Iterator[Callable[[Event], None]]:
    """Show nothing: one of several processes speaks for all."""
    yield lambda event: None


def _plain(write: Callable[[str], None], count: Count) -> Callable[[Event], None]:
    from bench import events as ev

    paces: list[Pace] = []
    said: set[str] = set()
    printed = time.monotonic()

    def emit(event: Event) -> None:
        nonlocal printed
        match event:
            case ev.Profiling():
                line = f"[{event.group + 1}/{event.num_groups}] {event.stage} {event.row}".rstrip()
                if line not in said:
                    said.add(line)
                    write(line)
            case ev.RunStarted():
                paces[:] = [Pace(event)]
                count.begin()
                printed = time.monotonic()
                write(count() + headline(event))
            case ev.StepDone(epoch, step):
                paces[0].advance(epoch, step)
                if forecast := paces[0].forecast(count):
                    write(forecast)
                if time.monotonic() - printed >= PLAIN_EVERY_S:
                    printed = time.monotonic()
                    write(_step_line(paces[0]))
            case ev.EpochDone(facts):
                printed = time.monotonic()
                write("  " + "  ".join(epoch_parts(facts, paces[0])))
            case ev.Warned(warning):  # never among what other programs read
                typer.echo(f"warning: {warning}", err=True)
            case ev.Looked():
                count.more(event)
                write(other(event) or "")
            case ev.RunDone() | ev.JobFailed():
                place = count.end()
                # What was found finished has no line of its own before it.
                found = isinstance(event, ev.RunDone) and event.reused
                write((place if found else "") + (other(event) or ""))
            case _:
                text = other(event)
                if text:
                    write(text)

    return emit


def _step_line(pace: Pace) -> str:
    return (
        f"  epoch {pace.epoch}: step {pace.step} of {pace.run.num_steps},"
        f" {pace.throughput:,.0f} img/s, {duration(pace.left_s)} left"
    )
