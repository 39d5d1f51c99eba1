"""``senet-bench export``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.options import arguments


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino or pt2 (torch.export).")],
    precision: Annotated[str, typer.Option(help="fp32 or int8.")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images that a call takes.")] = 1,
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images that int8 is calibrated on.")
    ] = 256,
    calibration_seed: Annotated[
        int, typer.Option(min=0, help="Seed that draws the images for int8.")
    ] = 0,
    data_dir: opt.DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The file (default: exports/<run>-<precision>-b<batch>.…).")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Write a trained model as the artefact that profile times, with its record beside it.

    The record has hashes, versions, normalisation and calibration. 'senet-bench evaluate FILE'
    tests the file on the run's test set.

    [bold]Examples[/bold]

      senet-bench export runs/resnet18-imagenet-shapes-quick-e3-s0-1a2b3c4d --to onnx

      senet-bench export runs/resnet18-cifar-… --to openvino --precision int8
    """
    from bench.cli.screens.screen import screen
    from bench.execute.deploy import artifacts

    facts: dict[str, Any] = {
        "to": to,
        "precision": precision,
        "batch_size": batch_size,
        "calibration_images": calibration_images,
        "calibration_seed": calibration_seed,
    }
    with screen(stderr=True) as emit:
        path, record = artifacts.export(run, artifacts.Wanted(**facts), out, data_dir, emit)
    if as_json:
        arguments.print_json({"path": str(path), "record": record.model_dump(mode="json")})
        return
    typer.echo(f"{path}: {record.model.name} in {record.precision} for {record.runtime}")
    if record.quantization:
        made = record.quantization
        typer.echo(
            f"  {made.int8_operators} of {made.operators} convolutions and linear layers in int8,"
            f" calibrated on {made.calibration.num_images} training images"
        )
    typer.echo(f"  record: {artifacts.record_path(path)}")
    typer.echo(f"Next: senet-bench evaluate {shlex.quote(str(path))}")
