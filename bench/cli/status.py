"""``senet-bench status`` and ``senet-bench watch``: what runs are doing, seen from elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments
from bench.cli.screens.pace import SPARKS, duration, size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from bench.execute.launch.follow import Following, Standing

LOOK_EVERY_S = 1.0
STYLES = {"running": "bold", "done": "green", "failed": "red", "gone": "red"}


def status(
    runs: Annotated[Path, typer.Argument(help="Folder of runs.")] = Path("runs"),
    as_json: opt.AsJson = False,
) -> None:
    """Show once how far runs are, by what is written into their folders.

    It works from every machine that sees the folder, while they go on and later.

    Example: senet-bench status runs/matched
    """
    standings = _following(runs).standings()
    if as_json:
        arguments.print_json([asdict(job) for job in standings])
        return
    for job in standings:
        silent = f", silent for {job.silent_s:.0f} s" if job.state == "running" else ""
        typer.echo(line(job) + silent)
    if not standings:
        typer.echo(f"nothing in {runs} has told of itself yet")


def watch(
    runs: Annotated[Path, typer.Argument(help="Folder of runs.")] = Path("runs"),
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print every change as JSON, a line for each job that changed."
        ),
    ] = False,
) -> None:
    """Show what runs are doing, from another terminal, until Ctrl-C.

    Into a pipe it writes a line for each change, and ends when nothing runs any more. It reads the
    files once a second and does not speak to the runs: on the machine where a profile is being
    timed, even that is work beside it.

    [bold]Examples[/bold]

      senet-bench watch

      senet-bench watch runs/matched --json
    """
    from rich.console import Console

    following = _following(runs)
    console = Console(highlight=False)
    try:
        if as_json or not console.is_terminal or console.is_dumb_terminal:
            _print_changes(following, _json_line if as_json else line)
        else:
            _live(following, console)
    except KeyboardInterrupt:  # which is how one stops looking
        return


def _following(runs: Path) -> Following:
    from bench.errors import UserError
    from bench.execute.launch.follow import Following

    if not runs.is_dir():
        raise UserError(f"there is no folder {runs}; name the one that train or run writes into")
    return Following(runs)


def _print_changes(following: Following, text: Callable[[Standing], str]) -> None:
    """Print jobs as they change, until none runs."""
    said: dict[str, tuple[str, str]] = {}
    if not following.standings():
        typer.echo(f"nothing in {following.runs} has told of itself yet", err=True)
    while True:
        standings = following.standings()
        for job in standings:
            if said.get(job.name) != (job.state, job.what):
                said[job.name] = job.state, job.what
                typer.echo(text(job))
        if not any(job.state in ("running", "waiting") for job in standings):
            return
        time.sleep(LOOK_EVERY_S)


def _json_line(job: Standing) -> str:
    import json

    return json.dumps(asdict(job), ensure_ascii=False)


def _live(following: Following, console: Console) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(picture(following.standings(), console.width), refresh=True)
            time.sleep(LOOK_EVERY_S)


def line(job: Standing) -> str:
    """Return how far a job is, in a line."""
    where = f" on {job.host}" if job.host else ""
    return f"{job.state:>9} {100 * job.share:3.0f} %  {job.name}{where}  {job.what}".rstrip()


def picture(standings: list[Standing], width: int) -> RenderableType:
    """Return all jobs, of those that run what they do, on lines that are ``width`` wide at most."""
    from rich.console import Group
    from rich.text import Text

    from bench.cli.screens.live import cut

    if not standings:
        return Text("nothing here has told of itself yet; Ctrl-C ends")
    count = Counter(job.state for job in standings)
    told = ", ".join(f"{number} {state}" for state, number in count.items())
    lines = [Text(f"{told}; Ctrl-C stops looking", style="dim")]
    for job in standings:
        beside = f"{job.what}  " if job.state == "done" and job.what else ""
        head = f"{job.state:>9}  {beside}{job.name}"
        lines.append(cut(head, width, STYLES.get(job.state, "")))
        below = _doing(job) if job.state == "running" else [job.what] if not beside else []
        lines += [cut(f"{'':11}{text}", width) for text in below if text]
    return Group(*lines)


def _doing(job: Standing) -> list[str]:
    """Return what a job that runs does: how far it is, then what its epochs gave."""
    from bench.report.page.formats import spark

    done = round(10 * job.share)
    left = "" if job.left_s is None else f"  {duration(job.left_s)} left"
    first = f"{'█' * done}{'░' * (10 - done)} {100 * job.share:3.0f} %  {job.what}{left}"
    second = []
    if job.top1:
        second.append(f"top-1 {spark(job.top1[-SPARKS:])} {100 * job.top1[-1]:.1f} %")
        second.append(f"img/s {spark(job.img_per_s[-SPARKS:])} {job.img_per_s[-1]:,.0f}")
    if job.memory is not None:
        second.append(size(job.memory))
    return [first, "  ".join(second)] if second else [first]
