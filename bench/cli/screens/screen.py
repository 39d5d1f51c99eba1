"""The progress of long work: a live display in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from bench.events import Event, RunStarted
    from bench.record.run import EpochFacts, RunRecord

PLAIN_EVERY_S = 30.0


@dataclass
class _Pace:
    """How fast a run goes since it was started: what the time left is told from.

    Not every step need be told; the first that is begins the count.
    """

    run: RunStarted
    began: float = field(default_factory=time.monotonic)
    first: int | None = None
    epoch: int = 1
    step: int = 0
    last: EpochFacts | None = None
    printed: float = field(default_factory=time.monotonic)

    def advance(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step
        if self.first is None:
            self.first = self.done - 1

    @property
    def steps(self) -> int:
        return 0 if self.first is None else self.done - self.first

    @property
    def done(self) -> int:
        return (self.epoch - 1) * self.run.num_steps + self.step

    @property
    def total(self) -> int:
        return self.run.spec.recipe.epochs * self.run.num_steps

    @property
    def throughput(self) -> float:
        images = self.steps * self.run.num_train / self.run.num_steps
        return images / max(1e-9, time.monotonic() - self.began)

    @property
    def left_s(self) -> float | None:
        if self.steps == 0:
            return None
        return (self.total - self.done) * (time.monotonic() - self.began) / self.steps


@dataclass
class _Count:
    """Which of how many trainings is going on; it says nothing where there is but one."""

    total: int | None
    ended: int = 0

    def __call__(self) -> str:
        many = self.total is not None and self.total > 1
        return f"[{self.ended + 1}/{self.total}] " if many else ""

    def end(self) -> str:
        told = self()
        self.ended += 1
        return told


@contextlib.contextmanager
def screen(*, stderr: bool = False, total: int | None = None) -> Iterator[Callable[[Event], None]]:
    """Show events while the block runs; ``stderr`` keeps stdout for what is printed after it.

    Of ``total`` trainings each says which it is: [2/5].
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with _live(console, _Count(total)) as emit:
            yield emit
    else:
        yield _plain(partial(typer.echo, err=stderr), _Count(total))


def plain(write: Callable[[str], None]) -> Callable[[Event], None]:
    """Return what writes events in lines, as where there is no terminal."""
    return _plain(write, _Count(None))


@contextlib.contextmanager
def silence() -> Iterator[Callable[[Event], None]]:
    """Show nothing: one of several processes speaks for all."""
    yield lambda event: None


def _plain(write: Callable[[str], None], count: _Count) -> Callable[[Event], None]:
    from bench import events as ev

    paces: list[_Pace] = []
    said: set[str] = set()

    def emit(event: Event) -> None:
        match event:
            case ev.Profiling():
                line = f"[{event.group + 1}/{event.num_groups}] {event.stage} {event.row}".rstrip()
                if line not in said:
                    said.add(line)
                    write(line)
            case ev.RunStarted():
                paces[:] = [_Pace(event)]
                write(count() + _headline(event))
            case ev.StepDone(epoch, step):
                paces[0].advance(epoch, step)
                _now_and_then(paces[0], write)
            case ev.EpochDone(facts):
                paces[0].last, paces[0].printed = facts, time.monotonic()
                write(_epoch_line(facts, paces[0]))
            case ev.Warned(warning):  # never among what other programs read
                typer.echo(f"warning: {warning}", err=True)
            case ev.RunDone() | ev.JobFailed():
                place = count.end()
                # What was found finished has no line of its own before it.
                found = isinstance(event, ev.RunDone) and event.reused
                write((place if found else "") + (_other(event) or ""))
            case _:
                text = _other(event)
                if text:
                    write(text)

    return emit


def _now_and_then(pace: _Pace, write: Callable[[str], None]) -> None:
    if time.monotonic() - pace.printed < PLAIN_EVERY_S:
        return
    pace.printed = time.monotonic()
    write(
        f"  epoch {pace.epoch}: step {pace.step} of {pace.run.num_steps},"
        f" {pace.throughput:,.0f} img/s, {duration(pace.left_s)} left"
    )


def _headline(run: RunStarted) -> str:
    spec = run.spec
    again = f", going on after epoch {run.epochs_done}" if run.epochs_done else ""
    epochs = "epoch" if spec.recipe.epochs == 1 else "epochs"
    processes = f" × {spec.world_size} processes" if spec.world_size > 1 else ""
    engine = ", plain loop" if spec.engine == "plain" else ""
    return (
        f"{spec.model.title}, {run.params:,} parameters, on"
        f" {run.num_train:,} images of {spec.data.label or spec.data.name}:"
        f" recipe {spec.recipe.name}, {spec.recipe.epochs} {epochs}, seed {spec.seed},"
        f" {spec.device}{processes}, {spec.precision}, {spec.runtime}{engine}{again}"
    )


def _epoch_line(facts: EpochFacts, pace: _Pace) -> str:
    epochs = pace.run.spec.recipe.epochs
    top1 = facts.val_top1
    validated = "" if top1 is None else f"  val {100 * top1:6.2f} %"
    left = f"  {duration(pace.left_s)} left" if facts.epoch < epochs else ""
    return (
        f"  epoch {facts.epoch:>{len(str(epochs))}}/{epochs}  loss {facts.loss:.4f}"
        f"  train top-1 {100 * facts.top1:6.2f} %{validated}  lr {facts.lr:.5f}"
        f"  {facts.throughput:,.0f} img/s  {facts.epoch_wall_s:.1f} s{left}"
    )


def _other(event: Event) -> str | None:
    from bench import events as ev

    match event:
        case ev.Preparing(what, done, total) if done >= total > 0:
            return f"{what}: {total:,} done"
        case ev.Preparing(what, 0, 0):
            return what
        case ev.RunDone(record, folder, reused):
            warnings = "".join(f"\n  warning: {warning}" for warning in record.warnings)
            return f"  {_result(record)}{' (found finished)' if reused else ''}  {folder}{warnings}"
        case ev.Warned():
            return f"warning: {event.warning}"
        case ev.JobFailed():
            return f"  {event.name}: failed: {event.reason}  {event.record}"
        case _:
            return None


def _result(record: RunRecord) -> str:
    if record.test is None:
        return f"{record.spec.model.name}: {record.status}: {record.reason}"
    top5 = "" if record.test.top5 is None else f", top-5 {100 * record.test.top5:.2f} %"
    return (
        f"{record.spec.model.name}: test top-1 {100 * record.test.top1:.2f} %{top5}"
        f" ({record.test.top1_correct:,} of {record.test.num_images:,})"
    )


def duration(seconds: float | None) -> str:
    """Return seconds as 45 s, 3:07 min or 2:05 h."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


@contextlib.contextmanager
def _live(console: Console, count: _Count) -> Iterator[Callable[[Event], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, expand=True, transient=True) as progress:
        yield _live_emit(progress, console, count)


def _live_emit(progress: Progress, console: Console, count: _Count) -> Callable[[Event], None]:
    from bench import events as ev

    bars: dict[str, TaskID] = {}
    paces: list[_Pace] = []

    def bar(name: str, done: int, total: int, note: str = "") -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total or None, note=note)
        progress.update(bars[name], completed=done, total=total or None, note=note)

    def drop_bars() -> None:
        for task in bars.values():
            progress.remove_task(task)
        bars.clear()

    def emit(event: Event) -> None:
        match event:
            case ev.Preparing(what, done, total):
                bar(what, done, total, f"{done:,} of {total:,}" if total else f"{done:,}")
            case ev.RunStarted():
                drop_bars()
                paces[:] = [_Pace(event)]
                console.print(count() + _headline(event), style="bold", markup=False)
            case ev.StepDone(epoch, step):
                paces[0].advance(epoch, step)
                bar(paces[0].run.spec.model.name, paces[0].done, paces[0].total, _note(paces[0]))
            case ev.EpochDone(facts):
                paces[0].last = facts
                console.print(_epoch_line(facts, paces[0]))
            case ev.Profiling():
                # Nothing is drawn beside a block that is being timed: only when there is news.
                progress.live.auto_refresh = False
                bar("profile", round(1000 * event.done), 1000, f"{event.row}: {event.stage}")
                progress.refresh()
            case ev.Evaluating(done, total):
                bar("test", done, total, f"{done:,} of {total:,}")
            case ev.RunDone():
                count.end()
                drop_bars()
                console.print(_other(event) or "", style="green" if event.record.test else "red")
            case ev.Warned():
                console.print(_other(event) or "", style="yellow", markup=False)
            case ev.JobFailed():
                count.end()
                drop_bars()
                console.print(_other(event) or "", style="red", markup=False)

    return emit


def _note(pace: _Pace) -> str:
    last = pace.last
    seen = f"  loss {last.loss:.3f}  top-1 {100 * last.top1:.1f} %" if last else ""
    return (
        f"epoch {pace.epoch}/{pace.run.spec.recipe.epochs}{seen}"
        f"  {pace.throughput:,.0f} img/s  {duration(pace.left_s)} left"
    )
