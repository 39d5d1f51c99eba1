"""``senet-bench evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt

if TYPE_CHECKING:
    from bench.execute.evaluate_weights import Rescored


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
    from bench.cli.screen import screen
    from bench.compute.artifact import is_artifact
    from bench.compute.foreign import is_model
    from bench.compute.sources import PRETRAINED
    from bench.execute.evaluate_weights import rescore_file, rescore_run
    from bench.machine.devices import resolve

    if Path(source).is_dir():
        known: dict[str, object] = {
            "--model": model,
            "--stem": stem,
            "--dataset": dataset,
            "--data-label": data_label,
            "--labels": labels,
            "--image-size": image_size,
            "--recipe": recipe,
            "--attention": attention,
            "--reduction": reduction,
            "--se-bias": se_bias,
            "--se-divisor": se_divisor,
            "--out": out,
        }
        _refuse(known, f"{source} is a run's folder")
        with screen(stderr=True) as emit:
            result = rescore_run(
                Path(source),
                device=resolve(device),
                precision=precision,
                data_dir=data_dir,
                test_limit=test_limit,
                emit=emit,
            )
    elif is_artifact(source):
        own: dict[str, object] = {"--model": model, "--stem": stem, "--precision": precision}
        own |= {"--attention": attention, "--reduction": reduction, "--se-bias": se_bias}
        _refuse(own | {"--se-divisor": se_divisor, "--out": out}, f"{source} is run as it is")
        chosen = (data_label, labels, image_size, test_limit)
        result = _of_artifact(source, dataset, recipe, data_dir, chosen)
    else:
        data = opt.data_spec(
            dataset or "cifar10",
            data_dir,
            data_label,
            "fine" if labels is None else labels,
            _image_size(source, model) if image_size is None else image_size,
            None,
            test_limit,
        )
        named, weights = (source, PRETRAINED) if is_model(source) else (model, source)
        with screen(stderr=True) as emit:
            result = rescore_file(
                weights,
                data,
                model=named,
                stem=stem,
                attention=opt.attention(attention, reduction, se_bias, se_divisor),
                recipe=recipe or "standard",
                device=resolve(device),
                precision=precision or "fp32",
                out=out,
                emit=emit,
            )
    if as_json:
        opt.print_json(result.as_json())
    else:
        _print(result)


def _of_artifact(
    source: str,
    dataset: str | None,
    recipe: str | None,
    data_dir: Path | None,
    chosen: tuple[str | None, str | None, int | None, int | None],
) -> Rescored:
    """Test an artefact on the data set that is named, or else on that of its record."""
    from bench.cli.screen import screen
    from bench.execute.artifacts import evaluate_artifact

    data_label, labels, image_size, test_limit = chosen
    data = None
    if dataset is not None:
        data = opt.data_spec(
            dataset, data_dir, data_label, labels or "fine", image_size or 32, None, test_limit
        )
    else:
        names = ("--data-label", "--labels", "--image-size", "--test-limit")
        of_data = dict(zip(names, chosen, strict=True))
        _refuse(of_data, f"without --dataset {source} is tested on its record's")
    with screen(stderr=True) as emit:
        return evaluate_artifact(Path(source), data, recipe, data_dir, emit)


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise UserError for an option that is given and does not apply."""
    from bench.errors import UserError

    for option, value in options.items():
        if value is not None:
            raise UserError(f"{why}: {option} does not apply")


def _image_size(*names: str | None) -> int:
    """Return the size of images that the first foreign one of the names is for, 32 for others."""
    from bench.compute.foreign import input_size, is_model
    from bench.spec.model_name import parse

    foreign = [parse(name) for name in names if name and is_model(name)]
    return (input_size(foreign[0]) if foreign else None) or 32


def _print(result: Rescored) -> None:
    accuracy = result.accuracy
    stem = f" ({result.stem} stem)" if result.stem else ""
    typer.echo(f"{result.model}{stem}, {result.source}")
    typer.echo(f"  {result.dataset}, {result.device}, {result.precision}")
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
