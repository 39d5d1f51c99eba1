"""``senet-bench run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt

if TYPE_CHECKING:
    from bench.spec.experiment import Experiment


def run(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="quickstart (default), reference, matched, paper-cifar, ablations, rivals, a TOML"
            " file, or models to compare.",
            show_default=False,
        ),
    ] = None,
    data_dir: opt.DataDir = None,
    dataset: Annotated[
        str | None, typer.Option(help="Another data set than the experiment's.")
    ] = None,
    data_label: opt.DataLabel = None,
    epochs: opt.Epochs = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="How many seeds (5), or which (0,1,7); one run of each model for each."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Another recipe, at its own epochs.")] = None,
    lr: opt.LearningRate = None,
    batch_size: opt.BatchSize = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the training.", rich_help_panel=opt.MACHINE)
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime of the training.", rich_help_panel=opt.MACHINE)
    ] = None,
    deterministic: opt.Deterministic = False,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs (default: runs/NAME).", rich_help_panel=opt.OUTPUT),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report (default: reports/NAME).")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with unfinished runs.", rich_help_panel=opt.OUTPUT),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Throw unfinished runs away and begin anew.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = False,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Profile again, e.g. when the machine is quiet.")
    ] = False,
    seed_sd: opt.SeedSd = None,
    margin: opt.Margin = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1e9,
            help="Seconds that each run, and the profile, may take.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
) -> None:
    """Carry out a whole comparison: train, test and profile every model, write the report.

    Runs that are finished already are not trained again, so the command can be repeated. Each run
    has a process of its own: one that fails is recorded and the others are done, the exit code is
    then 1, and repeating the command repeats only what failed.

    [bold]Examples[/bold]

      senet-bench run quickstart

      senet-bench run matched --seeds 0,1,2 --device cuda --precision bf16

      senet-bench run mine.toml --resume

      senet-bench run se_resnet18 resnet18 --dataset folder --data-dir photos --seeds 2
    """
    from rich.console import Console

    from bench.cli.screen import screen
    from bench.execute.experiment import conduct
    from bench.execute.run_folder import if_unfinished
    from bench.report.derive.seeds import Stated
    from bench.report.page import terminal
    from bench.report.page.main_table import lettered, main_notes, narrow_table
    from bench.report.page.verdict import lines
    from bench.signals import stoppable
    from bench.spec.experiment import load_or_compare

    experiment = load_or_compare(source or ["quickstart"], dataset).changed(
        dataset=dataset,
        data_dir=str(data_dir) if data_dir else None,
        label=data_label,
        epochs=epochs,
        seeds=opt.seed_list(seeds) if seeds else None,
        recipe=recipe,
        lr=lr,
        batch_size=batch_size,
        device=device,
        precision=precision,
        runtime=runtime,
        deterministic=deterministic or None,
    )
    stated = Stated(
        opt.positive_points("--seed-sd", seed_sd), opt.positive_points("--margin", margin)
    )
    report = out or Path("reports") / experiment.name
    total = len(experiment.entries()) * len(experiment.seeds)
    typer.echo(_plan(experiment, total, report))
    with stoppable(), screen(total=total) as emit:
        done = conduct(
            experiment,
            runs or Path("runs") / experiment.name,
            report,
            emit=emit,
            if_unfinished=if_unfinished(resume=resume, restart=restart),
            timeout_s=timeout,
            stated=stated,
            remeasure=remeasure,
        )
    if done.rendered is not None:
        Console().print(terminal.render(narrow_table(done.rendered.study)))
        typer.echo(lettered(main_notes(done.rendered.study)))
        Console().print(terminal.bullets(lines(done.rendered.findings)))
        typer.echo(f"\nOpen {report / 'report.html'}")
        typer.echo("beside it: report.md, results.csv, charts")
    for cell in done.failed:
        typer.echo(f"failed: {cell.name}: {cell.reason} ({cell.record})", err=True)
    if done.failed:
        typer.echo("Repeat the command to do only what failed.", err=True)
        raise typer.Exit(opt.EXIT_FAILED)


def _plan(experiment: Experiment, total: int, report: Path) -> str:
    """Return what is going to be done, in a line."""
    networks, seeds = len(experiment.entries()), len(experiment.seeds)
    trainings = "1 training" if total == 1 else f"{total} trainings"
    epochs = experiment.recipe.epochs
    profiled = f", then {networks} profiled in one sitting" if experiment.profile else ""
    return (
        f"{experiment.name}: {trainings} of {epochs} epoch{'' if epochs == 1 else 's'}"
        f" ({networks} model{'' if networks == 1 else 's'} × {seeds}"
        f" seed{'' if seeds == 1 else 's'}){profiled}; report in {report}"
    )
