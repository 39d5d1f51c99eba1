"""What an experiment is going to do and how long that will take, told before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.screens.pace import duration

if TYPE_CHECKING:
    from bench.execute.resolve import Question
    from bench.spec.experiment import Experiment


def print_plan(experiment: Experiment, folder: Path, price_per_hour: float | None) -> None:
    """Say what is left of an experiment and what that takes."""
    from bench.execute.launch.plan import plan
    from bench.machine.devices import resolve

    device = resolve(experiment.device)
    found = plan(experiment, folder, [Path("runs"), folder], device, price_per_hour)
    typer.echo(f"{experiment.name}: {found.num_left} of {found.num_runs} trainings are left")
    if found.unknown:
        typer.echo(f"not measured on {device}, in no figure below: {', '.join(found.unknown)}")
    typer.echo(f"  {found.machine_hours:.2f} machine-hours of training")
    for workers, hours in found.hours.items():
        typer.echo(f"  {hours:.2f} h on {workers} machine{'s' if workers > 1 else ''}")
    if found.price is not None:
        typer.echo(f"  {found.price:.2f} at {price_per_hour:g} an hour")


def say(text: str) -> None:
    """Print a line, in a terminal on as many as it needs, of which none has a word alone."""
    from rich.console import Console

    from bench.cli.screens.live import balanced

    console = Console(highlight=False)
    typer.echo(balanced(text, console.width) if console.is_terminal else text)


def in_a_line(experiment: Experiment, total: int, report: Path, question: Question | None) -> str:
    """Return what is going to be done, in a line."""
    networks = len(experiment.entries())
    seeds = total // networks
    trainings = "1 training" if total == 1 else f"{total} trainings"
    epochs = experiment.recipe.epochs
    more = ""
    if question is not None:
        wanted = f"±{100 * question.wanted:g} points or a sign"
        more = f", then more until {wanted}, to {question.most_seeds} seeds at most"
    profiled = f", then {networks} profiled in one sitting" if experiment.profile else ""
    return (
        f"{experiment.name}: {trainings} of {epochs} epoch{'' if epochs == 1 else 's'}"
        f" ({networks} model{'' if networks == 1 else 's'} × {seeds}"
        f" seed{'' if seeds == 1 else 's'}){more}{profiled}; report in {report}"
    )


def forecast(experiment: Experiment, folder: Path) -> str:
    """Return how long that will take by what was measured here before, in a line."""
    from bench.execute.launch.plan import plan
    from bench.machine.devices import resolve

    found = plan(experiment, folder, [Path("runs"), folder], resolve(experiment.device))
    told = []
    if found.num_left == 0:
        told.append("all trainings are there already")
    elif not found.unknown:
        took = duration(3600 * found.machine_hours)
        told.append(f"{took} for the {found.num_left} trainings left, by those measured here")
    else:
        told.append(
            f"each training tells after its first steps; not measured yet: {found.unknown[0]}"
        )
        if len(found.unknown) > 1:
            told[-1] += f" and {len(found.unknown) - 1} more"
    if experiment.profile is not None:
        rows, seconds = _timing(experiment)
        told.append(f"then {rows} rows of the sitting, timed for at most {duration(seconds)}")
    return f"forecast: {'; '.join(told)}"


def _timing(experiment: Experiment) -> tuple[int, float]:
    """Return how many rows a sitting has, and how many seconds they are timed at most."""
    entry = experiment.profile
    assert entry is not None, "there is something to profile"
    rows = len(experiment.entries()) * len(entry.precisions) * len(entry.runtimes)
    rows *= len(entry.batch_sizes) * len(entry.modes)
    single = rows // len(entry.batch_sizes) // len(entry.modes) if 1 in entry.batch_sizes else 0
    single = single if "infer" in entry.modes else 0
    return rows + single, rows * entry.timing.max_s + single * entry.timing.single_stream_s
