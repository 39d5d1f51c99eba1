"""The progress of a profile on stderr, drawn between blocks only, never beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from bench.measure.prepare import Progress

    Screen = tuple[Callable[[Progress], None], Callable[[str], None]]


@contextlib.contextmanager
def screen() -> Iterator[Screen]:
    """Yield what to tell progress and warnings to: a bar in a terminal, plain lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with _live(console) as functions:
            yield functions
    else:
        yield _plain(), _warn


def _warn(warning: str) -> None:
    typer.echo(f"warning: {warning}", err=True)


def _plain() -> Callable[[Progress], None]:
    said: set[tuple[int, str, str]] = set()

    def tell(progress: Progress) -> None:
        line = (progress.group, progress.stage, progress.row)
        if line not in said:
            said.add(line)
            at = f"{progress.group + 1}/{progress.num_groups}"
            typer.echo(f"[{at}] {progress.stage} {progress.row}", err=True)

    return tell


@contextlib.contextmanager
def _live(console: Any) -> Iterator[Screen]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Refreshing by a thread would take time from the blocks that are being timed.
    with Bars(*columns, console=console, auto_refresh=False, transient=True) as bars:
        task = bars.add_task("starting", total=1.0)

        def tell(progress: Progress) -> None:
            done = (progress.group + progress.fraction) / max(1, progress.num_groups)
            what = f"{progress.stage} {progress.row}"
            bars.update(task, completed=done, description=what, refresh=True)

        def warn(warning: str) -> None:
            bars.console.print(f"warning: {warning}", style="yellow", markup=False)

        yield tell, warn
