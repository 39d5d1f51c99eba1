"""``senet-bench profile``."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.options import arguments, names
from bench.cli.screens.profile_output import Wanted, _show
from bench.cli.screens.screen import screen
from bench.errors import EXIT_USAGE
from bench.signals import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from bench.events import Emit, Event
    from bench.execute.sittings import Profiled
    from bench.spec.test_set import TestSpec

SCENARIOS = ("end_to_end", "server")


def profile(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models; see 'senet-bench models', or the folder of a run (default: SE-ResNet-50,"
            " ResNet-50, ResNet-101).",
            autocompletion=names.models_or_runs,
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Profile the trained model of this run's folder instead.",
            autocompletion=names.runs,
            rich_help_panel=opt.MODEL,
        ),
    ] = None,
    stem: opt.StemName = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="cifar10, cifar100, folder or shapes: whose classes and size the models are for,"
            " and what --weights are tested on.",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    data_dir: opt.DataDir = None,
    data_label: opt.DataLabel = None,
    test_limit: opt.TestLimit = None,
    recipe: Annotated[
        str, typer.Option(help="Whose normalisation the --weights expect.")
    ] = "standard",
    labels: opt.Labels = "fine",
    num_classes: Annotated[
        int | None,
        typer.Option(help="Classes (default: the data set's).", rich_help_panel=opt.DATA),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels a side (default: the data set's).", rich_help_panel=opt.DATA),
    ] = None,
    attention: opt.AttentionText = None,
    reduction: opt.Reduction = None,
    se_bias: opt.SEBias = None,
    se_divisor: opt.SEDivisor = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights file, which names its own model if it is of this project, or"
            " torchvision:IMAGENET1K_V2.",
            rich_help_panel=opt.MODEL,
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images a call, separated by commas; auto: the most that fit.")
    ] = "1,64",
    device: opt.DeviceName = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, tf32, bf16, fp16, int8, separated by commas.")
    ] = "fp32",
    runtime: Annotated[
        str,
        typer.Option(help="eager, compile, compile_frozen, openvino, … with commas; see below."),
    ] = "eager",
    mode: Annotated[
        str, typer.Option(help="infer, train, or both with a comma.", rich_help_panel=opt.MACHINE)
    ] = "infer",
    repeat: Annotated[
        int,
        typer.Option(
            min=1,
            help="Repeat in this many fresh processes, for the interval.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = 1,
    interval: Annotated[
        float | None,
        typer.Option(
            help="Half-width of the ratio's interval to aim for (0.01).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    max_s: Annotated[
        float | None,
        typer.Option(
            "--max-seconds",
            help="Most seconds of timing, a row on average (8; single calls: 3).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    accuracy: Annotated[
        bool | None,
        typer.Option(
            "--accuracy/--no-accuracy",
            help="Put the whole test set through each session that is timed (default: where there"
            " are trained weights and their data set).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    calibration_images: Annotated[
        int,
        typer.Option(
            min=1,
            help="Training images that int8 is calibrated on.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = 256,
    calibration_seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed that draws the images for int8.", rich_help_panel=opt.MACHINE
        ),
    ] = 0,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="Ask also: end_to_end (JPEG to class), server (single images at random moments);"
            " with a comma both.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a second of the server (half of what it can serve).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = None,
    bound_ms: Annotated[
        float,
        typer.Option(
            help="Milliseconds that 99 % of the server's answers may take.",
            rich_help_panel=opt.MACHINE,
        ),
    ] = 100.0,
    memory: Annotated[
        bool,
        typer.Option(help="Measure peak memory, in fresh processes.", rich_help_panel=opt.MACHINE),
    ] = True,
    breakdown: Annotated[
        bool,
        typer.Option(
            help="Measure where the time of eager calls goes.", rich_help_panel=opt.MACHINE
        ),
    ] = True,
    keep_freed: Annotated[
        bool,
        typer.Option(
            help="Keep freed memory for the next tensor: steadier and faster (CPU, glibc).",
            rich_help_panel=opt.MACHINE,
        ),
    ] = True,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The machine's price: gives cost a million images.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    reconcile: Annotated[
        bool,
        typer.Option(
            help="Explain the difference to other counters of MACs and FLOPs.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = False,
    charts: Annotated[
        bool,
        typer.Option(help="Draw the roofline and where time goes.", rich_help_panel=opt.OUTPUT),
    ] = True,
    seed: Annotated[
        int,
        typer.Option(help="Seed of inputs and of the order of turns.", rich_help_panel=opt.MACHINE),
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("profiles"),
    as_json: opt.AsJson = False,
) -> None:
    """Measure what models cost to run: MACs, operators, throughput, latency, memory, energy.

    Models and runtimes take turns in one sitting, so that their ratios hold although the machine
    drifts. Each row is kept as a record; Ctrl-C keeps what is finished. With an SE model and its
    plain twin the output ends in what SE costs.

    Runtimes: eager, channels_last, compile, compile_channels_last; on a CPU these two with _matmul
    (convolutions of small maps as products of matrices); compile_frozen (weights as constants,
    BatchNorm folded), cudagraph, cudagraph_channels_last, compile_cudagraph, onnxruntime and
    openvino (by the extras onnx and openvino).

    [bold]Examples[/bold]

      senet-bench profile se_resnet50 resnet50 --stem cifar --mode infer,train

      senet-bench profile resnet50 --runtime eager,compile --batch-size 1,auto

      senet-bench profile se_resnet50 resnet50 --repeat 5 --price-per-hour 1.20

      senet-bench profile --run runs/resnet18-cifar-… --runtime eager,openvino --precision fp32,int8

      senet-bench profile runs/resnet18-cifar-shapes-quick-e3-s0-1a2b3c4d
    """
    from bench.execute import sittings, subjects

    run, models = _named(run, models, weights)
    with sittings.early_server(wanted=memory and repeat == 1) as server:
        if run:
            place = {"data_dir": str(data_dir) if data_dir else None, "test_limit": test_limit}
            changes = arguments.given(place) | {"required": accuracy is True}
            wanted = subjects.of_run(run, models, weights, changes)
        else:
            built = arguments.architecture(stem, attention, reduction, se_bias, se_divisor)
            shape = subjects.Shape(dataset or "shapes", data_dir, labels, num_classes, image_size)
            data = (dataset, data_dir, data_label, labels, image_size or 32, None, test_limit)
            test = _test_spec(data, recipe, required=accuracy is True)
            wanted = subjects.by_name(models, weights, built, shape, test)
        if accuracy:
            subjects.check_accuracy(wanted)
        options = {
            "device": device,
            "precisions": arguments.name_list(precision),
            "runtimes": arguments.name_list(runtime),
            "batch_sizes": arguments.batch_sizes(batch_size),
            "modes": arguments.name_list(mode),
            "accuracy": accuracy is not False,
            "calibration_images": calibration_images,
            "calibration_seed": calibration_seed,
            **_asked(scenario, rate, bound_ms),
            "seed": seed,
            "memory": memory,
            "breakdown": breakdown,
            "keep_freed": keep_freed,
        }
        timing = {"rel_precision": interval, "max_s": max_s, "single_stream_s": max_s}
        job = subjects.checked_profile_job(wanted, options, arguments.given(timing), out)
        with screen(stderr=True) as emit:
            done = sittings.profile_now(job, repeat, _meanwhile(emit), server)
    _show(done.records, job, Wanted(as_json, price_per_hour, reconcile, charts))
    _leave(done, out)


def _named(
    run: Path | None, models: list[str] | None, weights: str | None
) -> tuple[Path | None, list[str] | None]:
    """Return the run or the models to profile: a run's folder may stand for a model's name.

    Weights alone name their own model. Where nothing is named, the models of the comparison are
    meant, which is told.
    """
    if run is None and models and len(models) == 1 and (Path(models[0]) / "run.json").is_file():
        return Path(models[0]), None
    if run is None and not models and weights is None:
        models = list(opt.COMPARED)
        told = f"no model named: {', '.join(models)} with fresh weights, as slow as trained ones"
        typer.echo(told, err=True)
    return run, models


def _test_spec(data: tuple[Any, ...], recipe: str, *, required: bool) -> TestSpec | None:
    """Return on what weights are tested; None where no data set is named."""
    from bench.spec.recipe import get_recipe
    from bench.spec.test_set import TestSpec

    if data[0] is None:
        return None
    return TestSpec(data=arguments.data_spec(*data), recipe=get_recipe(recipe), required=required)


def _asked(scenario: str | None, rate: float | None, bound_ms: float) -> dict[str, Any]:
    """Return what else is asked; UserError for a rate or a bound that nothing can have."""
    from bench.errors import UserError, unknown

    asked = arguments.name_list(scenario) if scenario else ()
    for name in asked:
        if name not in SCENARIOS:
            raise unknown("scenario", name, SCENARIOS)
    if rate is not None and not 0 < rate < math.inf:
        raise UserError(f"--rate takes requests a second above 0, not {rate:g}")
    if not 0 < bound_ms < math.inf:
        raise UserError(f"--bound-ms takes milliseconds above 0, not {bound_ms:g}")
    if rate is not None and "server" not in asked:
        raise UserError("--rate is for --scenario server")
    return {"scenarios": asked, "server_rate": rate, "server_bound_s": bound_ms / 1e3}


def _meanwhile(emit: Emit) -> Emit:
    """Return ``emit``, which imports what draws while another process measures memory."""
    from bench.events import Profiling

    def tell(event: Event) -> None:
        emit(event)
        if isinstance(event, Profiling) and event.stage == "measuring memory":
            importlib.import_module("bench.report.charts.profile")

    return tell


def _leave(done: Profiled, out: Path) -> None:
    """Leave with the exit code that tells what became of the rows."""
    kept = f"{len(done.records)} finished rows are kept in {out}"
    if done.interrupted:
        typer.echo(f"interrupted; {kept}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if done.failure is not None:
        typer.echo(f"failed: {done.failure}; {kept}", err=True)
        raise typer.Exit(opt.EXIT_FAILED)
    refused = [r for r in done.records if r.scenario == "server" and r.status == "unsupported"]
    if refused and any(record.status == "ok" for record in done.records):
        first = refused[0]
        name = f"{first.model.name} {first.runtime} {first.precision}"
        typer.echo(f"error: {name}: {first.reason}; the other rows are kept in {out}", err=True)
        raise typer.Exit(EXIT_USAGE)
    if not any(record.status == "ok" for record in done.records):
        typer.echo("error: none of the rows could be measured", err=True)
        raise typer.Exit(EXIT_USAGE)
