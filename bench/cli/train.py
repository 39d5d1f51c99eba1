"""``senet-bench train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as opt


def train(
    models: Annotated[list[str], typer.Argument(help="Models; see 'senet-bench models'.")],
    dataset: opt.DataName = "cifar10",
    data_dir: opt.DataDir = None,
    data_label: opt.DataLabel = None,
    labels: opt.Labels = "fine",
    image_size: opt.ImageSize = 32,
    train_limit: opt.TrainLimit = None,
    test_limit: opt.TestLimit = None,
    stem: opt.StemName = "imagenet",
    reduction: opt.Reduction = None,
    se_bias: opt.SEBias = None,
    recipe: opt.RecipeName = "standard",
    epochs: opt.Epochs = None,
    lr: opt.LearningRate = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = 0,
    device: opt.DeviceName = "auto",
    precision: opt.PrecisionName = "fp32",
    runtime: opt.TrainRuntime = "eager",
    weights: Annotated[
        str | None,
        typer.Option(help="Start from a weights file, or torchvision:IMAGENET1K_V2."),
    ] = None,
    out: opt.Runs = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with unfinished runs.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw unfinished runs away and begin anew.")
    ] = False,
) -> None:
    """Train models one after the other, test each after its last epoch, keep a record of each.

    A run that is finished already is not trained again. Ctrl-C, SIGTERM and SIGUSR1 save a
    checkpoint at the next step and leave with exit code 75: --resume then goes on.

    [bold]Examples[/bold]

      senet-bench train resnet18 --dataset shapes --recipe quick

      senet-bench train se_resnet50 resnet50 resnet101 --dataset cifar10 --recipe reference

      senet-bench train resnet50 --dataset folder --data-dir data --recipe standard --epochs 3
    """
    from bench import run
    from bench.cli.screen import screen
    from bench.device import resolve
    from bench.folders import check_writable
    from bench.spec import RunSpec, get_recipe, validated

    existing = run.existing(resume=resume, restart=restart)
    identify = partial(run.identify, stem=stem, reduction=reduction, se_bias=se_bias)
    data = opt.data_spec(dataset, data_dir, data_label, labels, image_size, train_limit, test_limit)
    shared = {
        "data": data,
        "recipe": get_recipe(recipe).changed(epochs=epochs, lr=lr, batch_size=batch_size),
        "seed": seed,
        "device": resolve(device),
        "precision": precision,
        "runtime": runtime,
        **run.weights_facts(weights),
    }
    for name in models:  # all that can be refused without the data is refused before it is read
        run.check_runnable(validated(RunSpec, shared | {"model": identify(name)}))
    check_writable(out)
    with screen() as emit:
        loaded, data_s = run.load_data(data, emit)
        specs = [validated(RunSpec, shared | {"model": identify(name, loaded)}) for name in models]
        for spec in specs:
            run.check_batch_size(spec, len(loaded.train))
        for spec in specs:
            run.train_run(spec, loaded, out, emit=emit, existing=existing, data_s=data_s)
    typer.echo(f"Next: senet-bench report {out}")
