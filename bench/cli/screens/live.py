"""The live display of a terminal: a bar, what the last epoch gave, and what goes on now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from bench.cli.screens.pace import (
    SPARKS,
    Count,
    Memory,
    Pace,
    duration,
    epoch_parts,
    headline,
    other,
    size,
)

if TYPE_CHECKING:
    from bench.events import Event

# Of an epoch's line, what is left out first where the terminal is too narrow for all.
LESS_NEEDED = (" left", "lr ", " s")


class _Screen(Progress):
    """Bars, and lines of facts below them."""

    facts: tuple[str, ...] = ()

    def get_renderables(self) -> Any:
        """Yield what is drawn, from top to bottom."""
        yield from super().get_renderables()
        for line in self.facts:
            yield cut(line, self.console.width)


def cut(line: str, width: int, style: str = "") -> Text:
    """Return a line that is never wider than the terminal."""
    text = Text(line, style=style, no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def balanced(text: str, width: int) -> str:
    """Return words on as few lines as they need, all about as long: none has one word alone."""
    import textwrap

    indent = " " * (len(text) - len(text.lstrip()))

    def wrapped(columns: int) -> list[str]:
        return textwrap.wrap(
            text,
            columns,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    fewest = len(wrapped(width))
    if fewest < 2:
        return text
    narrowest = next(columns for columns in range(1, width + 1) if len(wrapped(columns)) == fewest)
    return "\n".join(wrapped(narrowest))


@contextlib.contextmanager
def live(console: Console, count: Count) -> Iterator[Callable[[Event], None]]:
    """Show events on a terminal while the block runs."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}"),
    )
    with _Screen(*columns, console=console, expand=True, transient=True) as progress:
        yield _emit(progress, console, count)


def _emit(progress: _Screen, console: Console, count: Count) -> Callable[[Event], None]:
    from bench import events as ev

    bars: dict[str, TaskID] = {}
    paces: list[Pace] = []
    memory = Memory()

    def bar(name: str, done: int, total: int, note: str = "") -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total or None, note=note)
        progress.update(bars[name], completed=done, total=total or None, note=note)

    def drop_bars() -> None:
        progress.facts = ()
        for task in bars.values():
            progress.remove_task(task)
        bars.clear()

    def say(text: str, style: str = "") -> None:
        for line in text.split("\n"):
            console.print(balanced(line, console.width), style=style, markup=False)

    def emit(event: Event) -> None:
        match event:
            case ev.Preparing(what, done, total):
                bar(what, done, total, f"{done:,} of {total:,}" if total else f"{done:,}")
            case ev.RunStarted():
                drop_bars()
                paces[:] = [Pace(event)]
                count.begin()
                say(count() + headline(event), "bold")
            case ev.StepDone(epoch, step):
                pace = paces[0]
                pace.advance(epoch, step)
                if forecast := pace.forecast(count):
                    say(forecast, "dim")
                bar(pace.run.spec.model.name, pace.done, pace.total, _note(pace))
                progress.facts = facts_lines(pace, memory.now(), count)
            case ev.EpochDone(facts):
                paces[0].epochs.append(facts)
                console.print(_epoch_line(epoch_parts(facts, paces[0]), console.width))
            case ev.Profiling():
                # Nothing is drawn beside a block that is being timed: only when there is news.
                progress.live.auto_refresh = False
                bar("profile", round(1000 * event.done), 1000, f"{event.row}: {event.stage}")
                progress.refresh()
            case ev.Evaluating(done, total):
                progress.facts = ()
                bar("test", done, total, f"{done:,} of {total:,}")
            case ev.Looked():
                count.more(event)
                say(other(event) or "", "bold")
            case ev.RunDone():
                place = count.end()
                drop_bars()
                # Where it lies stands on a line of its own: names of folders are long.
                told = (other(event) or "").replace(f"  {event.folder}", f"\n  {event.folder}")
                told = told.replace(" (found", "\n  (found")
                say((place if event.reused else "") + told, "green" if event.record.test else "red")
            case ev.Warned():
                say(other(event) or "", "yellow")
            case ev.JobFailed():
                count.end()
                drop_bars()
                say(other(event) or "", "red")

    return emit


def _epoch_line(parts: list[str], width: int) -> str:
    """Return an epoch's parts on one line, without those that are needed least if it is narrow."""
    for needless in ("", *LESS_NEEDED):
        parts = [part for part in parts if not needless or needless not in part]
        if len(line := "  " + "  ".join(parts)) <= width:
            break
    return line


def _note(pace: Pace) -> str:
    return f"epoch {pace.epoch}/{pace.run.spec.recipe.epochs}  {duration(pace.left_s)} left"


def facts_lines(pace: Pace, memory: int | None, count: Count) -> tuple[str, ...]:
    """Return what stands below the bar: the last epoch, marked as such, and what is true now."""
    from bench.report.page.formats import spark

    lines, rates = [], [facts.throughput for facts in pace.epochs]
    if pace.epochs:
        last, top1 = pace.epochs[-1], [epoch.told_top1 for epoch in pace.epochs]
        kind = "train top-1" if last.val_top1 is None else "val top-1"
        lines.append(
            f"  last epoch  {kind} {100 * top1[-1]:.1f} % {spark(top1[-SPARKS:])}"
            f"  loss {last.loss:.3f}"
        )
    now = [f"{pace.throughput:,.0f} img/s {spark([*rates, pace.throughput][-SPARKS:])}"]
    if memory is not None:
        now.append(f"{size(memory)} RAM")
    left = count.left(pace.left_s)
    if left is not None:
        now.append(f"all {count.total}: ~{duration(left)} left")
    lines.append(f"  now         {'  '.join(now)}")
    return tuple(lines)
