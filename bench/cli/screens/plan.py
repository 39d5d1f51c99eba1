"""What an experiment is going to do and how long that will take, told before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.screens.pace import duration

if TYPE_CHECKING:
    from bench.execute.launch.plan import Plan
    from bench.execute.resolve import Question
    from bench.spec.experiment import Experiment


def print_plan(
    experiment: Experiment,
    folder: Path,
    price_per_hour: float | None,
    question: Question | None,
    *,
    elsewhere: bool,
) -> None:
    """Say what is left of an experiment and what that takes, up to the most seeds of a question.

    A device that this machine has not is that of others, as it is where jobs are done
    ``elsewhere``; auto is this machine's.
    """
    from bench.machine import devices

    device = experiment.device
    devices.check_name(device)
    here = map(devices.kind, devices.available())
    if device == "auto" or (devices.kind(device) in here and not elsewhere):
        device = devices.resolve(device)
    found = _plans(experiment, device, folder, question, price_per_hour)
    left = _span(str(one.num_left) for one in found)
    typer.echo(f"{experiment.name}: {left} of {found[-1].num_runs} trainings are left, on {device}")
    if unknown := ", ".join(found[-1].unknown):
        typer.echo(f"not measured on {device}, in no figure below: {unknown}")
    typer.echo(f"  {_span(f'{one.machine_hours:.2f}' for one in found)} machine-hours of training")
    for workers in found[0].hours:
        hours = _span(f"{one.hours[workers]:.2f}" for one in found)
        typer.echo(f"  {hours} h on {workers} machine{'s' if workers > 1 else ''}")
    if price_per_hour is not None:
        price = _span(f"{one.price:.2f}" for one in found)
        typer.echo(f"  {price} at {price_per_hour:g} an hour")


def _plans(
    experiment: Experiment,
    device: str,
    folder: Path,
    question: Question | None,
    price_per_hour: float | None = None,
) -> list[Plan]:
    """Return what an experiment would take; with a question, its first look and its last."""
    from bench.execute.launch.plan import plan

    given, asked = experiment.seeds, [experiment]
    if question is not None:
        numbers = question.first(given), question.most_seeds
        asked = [experiment.changed(seeds=question.seeds(given, number)) for number in numbers]
    return [plan(one, folder, [Path("runs"), folder], device, price_per_hour) for one in asked]


def _span(texts: Iterable[str]) -> str:
    """Return "from to to", or what is the same at both ends once."""
    return " to ".join(dict.fromkeys(texts))


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
    profiled = ""
    if experiment.profile is not None:
        times = experiment.profile.repeat
        sittings = f"{times} sittings" if times > 1 else "one sitting"
        profiled = f", then {networks} profiled in {sittings}"
    return (
        f"{experiment.name}: {trainings} of {epochs} epoch{'' if epochs == 1 else 's'}"
        f" ({networks} model{'' if networks == 1 else 's'} × {seeds}"
        f" seed{'' if seeds == 1 else 's'}){more}{profiled}; report in {report}"
    )


def forecast(experiment: Experiment, folder: Path, question: Question | None) -> str:
    """Return how long that will take by what was measured here before, in a line."""
    from bench.machine.devices import resolve

    plans = _plans(experiment, resolve(experiment.device), folder, question)
    found, told = plans[-1], []
    if found.num_left == 0:
        told.append("all trainings are there already")
    elif not found.unknown:
        took = _span(duration(3600 * one.machine_hours) for one in plans)
        left = _span(str(one.num_left) for one in plans)
        told.append(f"{took} for the {left} trainings left, by those measured here")
    else:
        told.append(
            f"each training tells after its first steps; not measured yet: {found.unknown[0]}"
        )
        if len(found.unknown) > 1:
            told[-1] += f" and {len(found.unknown) - 1} more"
    if experiment.profile is not None:
        rows, seconds = _timing(experiment)
        each = " of each sitting" if experiment.profile.repeat > 1 else " of the sitting"
        told.append(f"then {rows} rows{each}, timed for at most {duration(seconds)}")
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
