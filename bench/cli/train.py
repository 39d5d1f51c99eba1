"""``senet-bench train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.screen import duration, screen, silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.record.run import RunRecord
    from bench.spec.run import ModelSpec, RunSpec


def train(
    models: Annotated[list[str], typer.Argument(help="Models; see 'senet-bench models'.")],
    dataset: opt.DataName = "cifar10",
    data_dir: opt.DataDir = None,
    data_label: opt.DataLabel = None,
    labels: opt.Labels = "fine",
    image_size: opt.ImageSize = 32,
    train_limit: opt.TrainLimit = None,
    test_limit: opt.TestLimit = None,
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

      senet-bench train se_resnet50 resnet50 --dataset cifar10 --recipe reference

      senet-bench train resnet50 --dataset folder --data-dir data --epochs 3

      torchrun --nproc-per-node 4 -m bench train resnet50 --runtime compile
    """
    from bench.compute import distributed, foreign, model
    from bench.errors import UserError
    from bench.execute import checks, run_folder
    from bench.execute import train_run as run
    from bench.machine.devices import resolve
    from bench.record.files import check_writable
    from bench.signals import stoppable
    from bench.spec.recipe import get_recipe
    from bench.spec.run import RunSpec
    from bench.spec.values import validated

    existing = run_folder.existing(resume=resume, restart=restart)
    group, chosen = distributed.from_environment(), resolve(device)
    asked: dict[str, Any] = {
        "stem": stem,
        "attention": opt.attention(attention, reduction, se_bias, se_divisor),
        "beside": models,
    }
    identify: Callable[..., ModelSpec] = partial(model.identify, **asked)
    sketches = [model.sketch(name, **asked) for name in models]
    data = opt.data_spec(dataset, data_dir, data_label, labels, image_size, train_limit, test_limit)
    data = foreign.prepared(data, sketches[0], weights)
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    shared = {
        "data": data,
        "recipe": get_recipe(recipe).changed(**opt.recipe_changes(changes) | opt.given(given)),
        "seed": seed,
        "device": chosen,
        "precision": precision,
        "runtime": runtime,
        "engine": engine,
        "val_split": (0.1 if target else 0.0) if val_split is None else val_split,
        "target_top1": target,
        "world_size": group.world_size,
        "deterministic": deterministic,
        **model.weights_facts(weights),
    }
    if trace is not None:
        if trace.is_dir():
            raise UserError(f"--trace: {trace} is a folder; name a file in it")
        check_writable(trace.parent)
    for option, value in (("--trace", trace), ("--weights", weights)):
        if value is not None and len(models) > 1:
            raise UserError(f"{option} takes one model, since it names one file")
    for sketch in sketches:  # all that can be refused without the data is, before it is read
        checks.check_runnable(validated(RunSpec, shared | {"model": sketch}))
    check_writable(out)
    with (
        stoppable(),
        screen() if group.is_first else silence() as emit,
        distributed.joined(group, chosen),
    ):
        loaded, data_s = distributed.local_first(group, lambda: run.load_data(data, emit))
        specs = [
            validated(RunSpec, shared | {"model": identify(name, dataset=loaded)})
            for name in models
        ]
        for spec in specs:
            checks.check_batch_size(spec, len(loaded.train))
            checks.check_weights(spec)
            if resume and group.is_first:
                _note_unfinished(run_folder.unfinished_beside(spec, out), spec)
        train_run = partial(
            run.train_run, emit=emit, existing=existing, data_s=data_s, group=group, trace=trace
        )
        records = [train_run(spec, loaded, out) for spec in specs]
    if group.is_first:
        for record in records:
            if target is not None:
                typer.echo(_reached(record, target))
        if trace is not None and not trace.is_file():
            typer.echo("no trace: the run was finished before; choose another --out", err=True)
        if any(record.status != "diverged" for record in records):
            typer.echo(f"Next: senet-bench report {out}")
        if any(record.status == "diverged" for record in records):
            raise typer.Exit(opt.EXIT_FAILED)


def _note_unfinished(beside: Sequence[Path], spec: RunSpec) -> None:
    """Say that a run begins anew although one that looks like it could be continued."""
    if beside:
        names = ", ".join(str(folder) for folder in beside)
        typer.echo(
            f"note: {spec.folder_name()} begins anew; unfinished, and trained otherwise: {names}",
            err=True,
        )


def _reached(record: RunRecord, target: float) -> str:
    """Say how long a run trained until its target; it may have been made for another one."""
    seconds = record.seconds_to(target)
    when = "never reached" if seconds is None else f"reached after {duration(seconds)} of training"
    return f"{record.spec.model.name}: validation top-1 {100 * target:g} % {when}"
