"""``senet-bench run``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.options import arguments, names
from bench.cli.screens import plan as screen_plan
from bench.cli.screens import tensorboard

if TYPE_CHECKING:
    from bench.events import EmitNews
    from bench.execute.experiment import Conducted
    from bench.execute.launch.launchers import Launcher
    from bench.execute.resolve import Question


def run(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="quickstart (default), reference, matched, paper-cifar, ablations, rivals, a TOML"
            " file, or models to compare.",
            autocompletion=names.models_or_presets,
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
    log: opt.Log = None,
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
    resolve: Annotated[
        float | None,
        typer.Option(
            help="Add seeds until the differences that matter (attention against none, or all) have"
            " a sign, or an interval of ± so many points; the first look is at 3, or at --seeds.",
            show_default=False,
        ),
    ] = None,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --resolve: the most seeds a model (12).", show_default=False
        ),
    ] = None,
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
    on: Annotated[
        str | None,
        typer.Option(
            help="Who does the jobs: here (default: one after the other), slurm or ray.",
            rich_help_panel=opt.MACHINE,
            show_default=False,
        ),
    ] = None,
    set_launcher: Annotated[
        list[str] | None,
        typer.Option(
            help="Options of slurm (partition=gpu,gpus_per_node=1; cluster=local for this machine)"
            " or ray (address, num_cpus, num_gpus, scratch); max_jobs at a time. The file's table"
            " [launcher] may give them too, and on.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="How often a job that failed is tried again.", rich_help_panel=opt.MACHINE
        ),
    ] = 0,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="On Ctrl-C leave the jobs of slurm or ray running, and do not ask.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Start nothing: say how many hours it takes, by runs that were measured.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0, help="With --plan: what a machine costs.", rich_help_panel=opt.MACHINE),
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

      senet-bench run matched --seeds 5 --on slurm --set-launcher partition=gpu,gpus_per_node=1

      senet-bench run matched --resolve 0.5 --max-seeds 20
    """
    from bench.execute.experiment import conduct
    from bench.execute.launch.launchers import chosen_launcher
    from bench.execute.run_folder import if_unfinished
    from bench.report.derive.seeds import Stated
    from bench.spec.experiment import load_or_compare

    experiment = load_or_compare(source or ["quickstart"], dataset).changed(
        dataset=dataset,
        data_dir=str(data_dir) if data_dir else None,
        label=data_label,
        epochs=epochs,
        seeds=arguments.seed_list(seeds) if seeds else None,
        recipe=recipe,
        lr=lr,
        batch_size=batch_size,
        device=device,
        precision=precision,
        runtime=runtime,
        deterministic=deterministic or None,
    )
    stated = Stated(
        arguments.positive_points("--seed-sd", seed_sd),
        arguments.positive_points("--margin", margin),
    )
    report = out or Path("reports") / experiment.name
    folder = runs or Path("runs") / experiment.name
    question = _question(resolve, max_seeds)
    who, options = chosen_launcher(experiment.launcher, on, set_launcher or [])
    if plan:
        elsewhere = who != "here" and options.get("cluster") != "local"
        screen_plan.print_plan(experiment, folder, price_per_hour, question, elsewhere=elsewhere)
        return
    tensorboard.check(log)
    first = len(experiment.seeds) if question is None else question.first(experiment.seeds)
    total = len(experiment.entries()) * first
    screen_plan.say(screen_plan.in_a_line(experiment, total, report, question))
    if who == "here":
        screen_plan.say(screen_plan.forecast(experiment, folder, question))
    with _launching(who, options, folder, total, detach=detach, log=log) as (launcher, emit):
        done = conduct(
            experiment,
            folder,
            report,
            emit=emit,
            if_unfinished=if_unfinished(resume=resume, restart=restart),
            timeout_s=timeout,
            stated=stated,
            remeasure=remeasure,
            launcher=launcher,
            retries=retries,
            question=question,
        )
    _tell(done, report)


def _question(resolve: float | None, max_seeds: int | None) -> Question | None:
    """Return what is asked of the seeds; None where their number is given."""
    from bench.errors import UserError
    from bench.execute.resolve import Question

    wanted = arguments.positive_points("--resolve", resolve)
    if wanted is None:
        if max_seeds is not None:
            raise UserError("--max-seeds is for --resolve; --seeds says how many there are")
        return None
    return Question(wanted, 12 if max_seeds is None else max_seeds)


@contextlib.contextmanager
def _launching(
    on: str, options: dict[str, Any], folder: Path, total: int, *, detach: bool, log: str | None
) -> Iterator[tuple[Launcher | None, EmitNews]]:
    """Yield who does the jobs and who is told of them; ask once what is to become of jobs."""
    from bench.cli.screens.screen import screen
    from bench.cli.screens.suite_screen import suite_screen
    from bench.execute.launch.conductor import conducting
    from bench.execute.launch.suite import cancel_all
    from bench.signals import Stopped, stoppable

    with conducting(on, options, folder) as launcher:
        try:
            shown: Any = screen(total=total) if launcher is None else suite_screen(total)
            with stoppable(), tensorboard.logged(shown, log, folder) as emit:
                yield launcher, emit
        except Stopped as reason:
            if launcher is None:
                raise
            if not detach and str(reason).startswith("SIGINT") and _are_to_be_cancelled():
                raise Stopped(f"{reason}; {cancel_all(folder, launcher)} jobs cancelled") from None
            again = "the same command follows them again"
            raise Stopped(f"detached; the jobs go on in {folder}, {again}") from None


def _are_to_be_cancelled() -> bool:
    """Ask whoever sits at the terminal; who is gone, or leaves the question, has not said so."""
    if not sys.stdin.isatty():
        return False
    try:
        return typer.confirm("Cancel the jobs that run?", default=False, err=True)
    except typer.Abort:
        return False


def _tell(done: Conducted, report: Path) -> None:
    """Print the answer, where the report is and what failed, and leave with its exit code."""
    from rich.console import Console

    from bench.report.page import terminal
    from bench.report.page.blocks import Bullets
    from bench.report.page.tables.main_table import lettered, main_notes, narrow_table
    from bench.report.page.tables.seeds import seeds
    from bench.report.page.verdict import lines

    if done.rendered is not None:
        Console().print(terminal.render(narrow_table(done.rendered.study)))
        typer.echo(lettered(main_notes(done.rendered.study)))
        Console().print(terminal.bullets(lines(done.rendered.findings)))
        for block in seeds(done.rendered.study):
            if isinstance(block, Bullets):
                Console().print(terminal.bullets(block.items))
        typer.echo(f"\nOpen {report / 'report.html'}")
        typer.echo("beside it: report.md, results.csv, charts")
    for job in done.failed:
        typer.echo(f"failed: {job.name}: {job.reason} ({job.record})", err=True)
    if done.failed:
        typer.echo("Repeat the command to do only what failed.", err=True)
        raise typer.Exit(opt.EXIT_FAILED)
