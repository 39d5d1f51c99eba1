"""``senet-bench train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments, names
from bench.cli.screens import tensorboard
from bench.cli.screens.pace import duration
from bench.cli.screens.screen import screen, silence

if TYPE_CHECKING:
    from bench.record.run import RunRecord


def train(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=names.help_of(
                "Models; see 'senet-bench models' (default: SE-ResNet-50, ResNet-50, ResNet-101).",
                "models",
            ),
            autocompletion=names.models,
            show_default=False,
        ),
    ] = None,
    dataset: opt.DataName = "cifar10",
    data_dir: opt.DataDir = None,
    data_label: opt.DataLabel = None,
    labels: opt.Labels = "fine",
    image_size: opt.ImageSize = 32,
    train_limit: opt.TrainLimit = None,
    test_limit: opt.TestLimit = None,
    skip_bad: opt.SkipBad = False,
    stem: opt.StemName = None,
    attention: opt.AttentionText = None,
    reduction: opt.Reduction = None,
    se_bias: opt.SEBias = None,
    se_divisor: opt.SEDivisor = None,
    recipe: opt.RecipeName = "standard",
    epochs: opt.Epochs = None,
    lr: opt.LearningRate = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = 0,
    seeds: opt.Seeds = None,
    device: opt.DeviceName = "auto",
    precision: opt.PrecisionName = "fp32",
    runtime: opt.TrainRuntime = "eager",
    engine: opt.EngineName = "fast",
    changes: opt.RecipeChanges = None,
    val_split: opt.ValSplit = None,
    target: opt.Target = None,
    deterministic: opt.Deterministic = False,
    trace: opt.TraceFile = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from a weights file, torchvision:IMAGENET1K_V2, or pretrained: those that"
            " timm, torchvision or the hub have for a model of theirs, and their preprocessing.",
            rich_help_panel=opt.MODEL,
        ),
    ] = None,
    log: opt.Log = None,
    out: opt.Runs = Path("runs"),
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
) -> None:
    """Train models one after the other, test each after its last epoch, keep a record of each.

    A run that is finished already is not trained again. Ctrl-C, SIGTERM and SIGUSR1 save a
    checkpoint at the next step and leave with exit code 75: --resume then goes on. Started by
    torchrun, all processes together train each model on shares of the recipe's batches.

    [bold]Examples[/bold]

      senet-bench train resnet18 --dataset shapes --recipe quick

      senet-bench train se_resnet50 resnet50 --dataset cifar10 --recipe reference --seeds 0,1

      senet-bench train resnet50 --dataset folder --data-dir data --epochs 3

      torchrun --nproc-per-node 4 -m bench train resnet50 --runtime compile
    """
    from bench.execute.run_folder import if_unfinished
    from bench.execute.train_models import train_models, train_request
    from bench.signals import stoppable
    from bench.spec.recipe import get_recipe

    given = arguments.given({"epochs": epochs, "lr": lr, "batch_size": batch_size})
    arguments.refuse_contradictions(changes, given)
    tensorboard.check(log)
    if not models:
        models = list(opt.COMPARED)
        _tell_default(models, dataset, recipe)
    request = train_request(
        models,
        {
            "recipe": get_recipe(recipe).changed(**arguments.recipe_changes(changes) | given),
            "seed": seed,
            "precision": precision,
            "runtime": runtime,
            "engine": engine,
            "val_split": (0.1 if target else 0.0) if val_split is None else val_split,
            "target_top1": target,
            "deterministic": deterministic,
        },
        device=device,
        architecture=arguments.architecture(stem, attention, reduction, se_bias, se_divisor),
        data=arguments.data_spec(
            dataset, data_dir, data_label, labels, image_size, train_limit, test_limit, skip_bad
        ),
        out=out,
        if_unfinished=if_unfinished(resume=resume, restart=restart),
        weights=weights,
        trace=trace,
        seeds=arguments.seeds_of(seed, seeds),
    )
    is_first = request.group.is_first
    total = len(models) * len(request.seeds)
    with stoppable():
        shown = tensorboard.logged(screen(total=total), log, out) if is_first else silence()
        records = train_models(request, shown)
    if is_first:
        _tell(records, target, trace, out)


def _tell_default(models: list[str], dataset: str, recipe: str) -> None:
    """Say what is trained where no model was named, and what would be a smaller start."""
    typer.echo(
        f"no model named: {', '.join(models)} on {dataset}, recipe {recipe}, in that order; how"
        " long one takes is told from its first steps on. A smaller start: senet-bench train"
        " resnet18 --dataset shapes --recipe quick",
        err=True,
    )


def _tell(records: list[RunRecord], target: float | None, trace: Path | None, out: Path) -> None:
    """Say what came of it, and leave with the exit code of a failure where a run diverged."""
    for record in records:
        if target is not None:
            typer.echo(_reached(record, target))
    if trace is not None and not trace.is_file():
        typer.echo("no trace: the run was finished before; choose another --out", err=True)
    if any(record.status != "diverged" for record in records):
        typer.echo(f"Next: senet-bench report {shlex.quote(str(out))}")
    if any(record.status == "diverged" for record in records):
        raise typer.Exit(opt.EXIT_FAILED)


def _reached(record: RunRecord, target: float) -> str:
    """Say how long a run trained until its target; it may have been made for another one."""
    seconds = record.seconds_to(target)
    when = "never reached" if seconds is None else f"reached after {duration(seconds)} of training"
    return f"{record.spec.model.name}: validation top-1 {100 * target:g} % {when}"
