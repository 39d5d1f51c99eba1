"""``senet-bench evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments

if TYPE_CHECKING:
    from bench.execute.evaluate_weights import Rescored

# How the command line calls what the request calls otherwise, or shorter.
CALLED = {"label": "--data-label", "bias": "--se-bias", "divisor": "--se-divisor"} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("model", "stem", "dataset", "recipe", "normalization", "precision", "out"),
        *("attention", "reduction"),
        *("labels", "image_size", "test_limit", "skip_bad"),
    )
}


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            help="A run's folder, a weights file, a model with weights of its own, or an .onnx,"
            " .xml or .pt2."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Which model the file is for.")] = None,
    stem: Annotated[
        str | None, typer.Option(help="cifar or imagenet (default).", rich_help_panel=opt.MODEL)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set (default: cifar10).")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Whose normalisation the model expects (default: standard).",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            help="imagenet, half, or the data set's own pixels, where the recipe's does not fit.",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    data_dir: opt.DataDir = None,
    data_label: opt.DataLabel = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="CIFAR-100's label set: fine (default) or coarse.", rich_help_panel=opt.DATA
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Pixels a side, for --dataset folder (default: the model's, or 32).",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    test_limit: opt.TestLimit = None,
    skip_bad: opt.SkipBad = False,
    attention: opt.AttentionText = None,
    reduction: opt.Reduction = None,
    se_bias: opt.SEBias = None,
    se_divisor: opt.SEDivisor = None,
    device: opt.DeviceName = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, tf32, bf16 or fp16 (default: the run's, or fp32).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="For a file: keep a record in this folder of runs.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Test saved weights: top-1 and top-5 on the test set, without augmentation.

    A run's folder knows its model, data and recipe. A weights file (.safetensors or .pt, of this
    project, torchvision, timm or the reference repository) or torchvision:IMAGENET1K_V2 needs
    --model unless this project wrote it; --out brings it into reports. A model of timm, of
    torchvision, of the hub or in a file has weights of its own, and images are resized, cropped
    and normalised as these want them. An .onnx, .xml (OpenVINO) or .pt2 (torch.export) is run as
    it is; what 'export' wrote knows its data.

    [bold]Examples[/bold]

      senet-bench evaluate runs/resnet18-imagenet-shapes-quick-e3-s0-1a2b3c4d

      senet-bench evaluate se.safetensors --model se_resnet50 --stem cifar --json

      senet-bench evaluate timm:resnet50.a1_in1k --dataset folder --data-dir imagenet
    """
    from bench.cli.screens.screen import screen
    from bench.execute.evaluate_source import EvaluateRequest
    from bench.execute.evaluate_source import evaluate as test

    data = {"data_dir": data_dir and str(data_dir), "label": data_label, "labels": labels}
    request = EvaluateRequest(
        source,
        dataset=dataset,
        data=arguments.given(
            data
            | {"image_size": image_size, "test_limit": test_limit}
            | {"skip_bad": skip_bad or None}
        ),
        model=model,
        stem=stem,
        attention=arguments.attention(attention, reduction, se_bias, se_divisor),
        recipe=recipe,
        normalization=normalization,
        device=device,
        precision=precision,
        out=out,
        called=CALLED,
    )
    with screen(stderr=True) as emit:
        result = test(request, emit)
    if as_json:
        arguments.print_json(result.as_json())
    else:
        _print(result)
    if result.contradicts:
        typer.echo(f"error: {source} contradicts its record's accuracy", err=True)
        raise typer.Exit(opt.EXIT_FAILED)


def _print(result: Rescored) -> None:
    accuracy = result.accuracy
    stem = f" ({result.stem} stem)" if result.stem else ""
    typer.echo(f"{result.model}{stem}, {result.source}")
    typer.echo(f"  {result.dataset}, {result.device}, {result.precision}")
    mean, std = (", ".join(f"{x:.4g}" for x in v) for v in vars(result.normalization).values())
    typer.echo(f"  pixels: mean {mean}; deviation {std}")
    counted = f"{accuracy.top1_correct:,} of {accuracy.num_images:,}"
    typer.echo(f"  test top-1 {100 * accuracy.top1:.2f} % ({counted})")
    if accuracy.top5 is not None:
        typer.echo(f"  test top-5 {100 * accuracy.top5:.2f} %")
    typer.echo(f"  test loss  {accuracy.loss:.4f}")
    if result.recorded_top1 is not None:
        images = "the same images" if result.same_images else "other images"
        typer.echo(f"  the record says {100 * result.recorded_top1:.2f} % on {images}")
    if result.record:
        typer.echo(f"  record: {result.record}")
