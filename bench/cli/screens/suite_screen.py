"""The progress of many jobs at once: a line for each that runs, and a bar over all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from bench.cli.screens.screen import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from bench.events import EmitNews, Event, JobNews


@contextlib.contextmanager
def suite_screen(total: int) -> Iterator[EmitNews]:
    """Show the news of ``total`` jobs while the block runs, and what is said of all in lines."""
    from rich.console import Console

    from bench.events import JobNews

    console = Console(highlight=False)
    lines = plain(typer.echo)
    with contextlib.ExitStack() as stack:
        live: _Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            live = stack.enter_context(_live(console, total))

        def emit(event: Event | JobNews) -> None:
            if isinstance(event, JobNews):
                (live or _plain)(event)
                return
            lines(event)
            if live is not None:
                live.of_all(event)

        yield emit


def _plain(news: JobNews) -> None:
    text = _worth_a_line(news)
    if text:
        typer.echo(text)


def _worth_a_line(news: JobNews) -> str | None:
    from bench import events as ev

    match news.event:
        case ev.JobBegan(host):
            return f"{news.name}: started on {host}"
        case ev.EpochDone(facts):
            return f"{news.name}: epoch {facts.epoch}, loss {facts.loss:.4f}"
        case ev.RunDone(record, folder):
            top1 = "" if record.test is None else f" test top-1 {100 * record.test.top1:.2f} %"
            return f"{news.name}:{top1}  {folder}"
        case ev.Warned(warning):
            return f"warning: {news.name}: {warning}"
        case ev.JobEnded(code, reason) if code != 0:
            return f"{news.name}: {reason}"
        case _:
            return None


@contextlib.contextmanager
def _live(console: Console, total: int) -> Iterator[_Live]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(progress, total)


class _Live:
    """A bar for each job that runs; a line that stays for each that has ended."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.all = progress.add_task("all jobs", total=total, note="")
        self.total, self.done = total, 0

    def __call__(self, news: JobNews) -> None:
        """Show the news of one job."""
        from bench import events as ev

        match news.event:
            case ev.JobBegan(host):
                self._bar(news.name, 0.0, f"starting on {host}")
            case ev.RunStarted() as run:
                self.sizes[news.name] = run.num_steps, run.spec.recipe.epochs
                self._bar(news.name, 0.0, "starting")
                title = f"{run.spec.model.title}, seed {run.spec.seed}"
                self.progress.update(self.bars[news.name], description=title)
            case ev.StepDone(epoch, step):
                steps, epochs = self.sizes.get(news.name, (1, 1))
                share = ((epoch - 1) * steps + step) / (steps * epochs)
                self._bar(news.name, share, f"epoch {epoch}/{epochs}")
            case ev.Profiling() as profiling:
                self._bar(news.name, profiling.done, f"{profiling.stage} {profiling.row}")
            case ev.JobEnded(code):  # one that is tried again, or set aside, is not done
                self._ended(news.name, code == 0)
            case _:
                pass
        text = _worth_a_line(news)
        if text and not isinstance(news.event, ev.JobBegan | ev.EpochDone):
            self.progress.console.print(text, markup=False)

    def _bar(self, name: str, share: float, note: str) -> None:
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(name, total=1.0, note=note)
            self._count(0)
        self.progress.update(self.bars[name], completed=share, note=note)

    def of_all(self, event: Event) -> None:
        """Count what is said of the suite: a run that was found, one set aside, a new look."""
        from bench import events as ev

        match event:
            case ev.RunDone() | ev.JobFailed():
                self._count(1)
            case ev.Looked(look, _, _, num_runs) if look > 1:
                self.total += num_runs
                self._count(0)
            case _:
                pass

    def _ended(self, name: str, done: bool) -> None:
        if name in self.bars:
            self.progress.remove_task(self.bars.pop(name))
        self._count(int(done))

    def _count(self, more: int) -> None:
        self.done += more
        self.total = max(self.total, self.done)  # the sitting is one more
        note = f"{self.done} ended, {len(self.bars)} run"
        self.progress.update(self.all, completed=self.done, total=self.total, note=note)
