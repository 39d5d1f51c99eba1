"""``senet-bench profile``."""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.profile_screen import screen
from bench.errors import EXIT_USAGE
from bench.signals import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from bench.execute.sitting import SittingJob
    from bench.execute.test_spec import TestSpec
    from bench.measure.peak_memory import MemoryServer
    from bench.measure.prepare import Progress
    from bench.record.profile import ProfileRecord
from bench.cli.profile_output import Wanted, _show
from bench.cli.profile_subjects import Subjects, _from_names, _from_run

SCENARIOS = ("end_to_end", "server")


def profile(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models; see 'senet-bench models'.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Profile the trained model of this run's folder instead.",
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
            help="Weights file of the model, or torchvision:IMAGENET1K_V2.",
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

    Runtimes: eager, channels_last, compile, compile_channels_last, compile_frozen (weights as
    constants, BatchNorm folded), cudagraph, cudagraph_channels_last, compile_cudagraph,
    onnxruntime and openvino (by the extras onnx and openvino).

    [bold]Examples[/bold]

      senet-bench profile se_resnet50 resnet50 --stem cifar --mode infer,train

      senet-bench profile resnet50 --runtime eager,compile --batch-size 1,auto

      senet-bench profile se_resnet50 resnet50 --repeat 5 --price-per-hour 1.20

      senet-bench profile --run runs/resnet18-cifar-… --runtime eager,openvino --precision fp32,int8

      senet-bench profile --run runs/resnet18-cifar-shapes-quick-e3-s0-1a2b3c4d
    """
    with _early_server(memory and repeat == 1) as server:
        own = opt.attention(attention, reduction, se_bias, se_divisor)
        built = {"stem": stem, "attention": own}
        shape = (dataset or "shapes", data_dir, labels, num_classes, image_size)
        if run:
            place = {"data_dir": str(data_dir) if data_dir else None, "test_limit": test_limit}
            changes = opt.given(place) | {"required": accuracy is True}
            subjects = _from_run(run, models, weights, changes)
        else:
            data = (dataset, data_dir, data_label, labels, image_size or 32, None, test_limit)
            test = _test_spec(data, recipe, required=accuracy is True)
            subjects = _from_names(models, weights, built, shape, test)
        _check_accuracy(accuracy, subjects)
        axes = {
            "device": device,
            "precisions": _names(precision),
            "runtimes": _names(runtime),
            "batch_sizes": _batch_sizes(batch_size),
            "modes": _names(mode),
        }
        timing = {"rel_precision": interval, "max_s": max_s, "single_stream_s": max_s}
        how = {
            "accuracy": accuracy is not False,
            "calibration_images": calibration_images,
            "calibration_seed": calibration_seed,
        }
        how |= _asked(scenario, rate, bound_ms)
        how |= {"seed": seed, "memory": memory, "breakdown": breakdown, "keep_freed": keep_freed}
        job = _job(subjects, axes | how, timing, out)
        records, interrupted = _measure(job, repeat, server)
    _show(records, job, Wanted(as_json, price_per_hour, reconcile, charts))
    _leave(records, interrupted, out)


def _test_spec(data: tuple[Any, ...], recipe: str, *, required: bool) -> TestSpec | None:
    """Return on what weights are tested; None where no data set is named."""
    from bench.execute.test_spec import TestSpec
    from bench.spec.recipe import get_recipe

    if data[0] is None:
        return None
    return TestSpec(data=opt.data_spec(*data), recipe=get_recipe(recipe), required=required)


def _asked(scenario: str | None, rate: float | None, bound_ms: float) -> dict[str, Any]:
    """Return what else is asked; UserError for a rate or a bound that nothing can have."""
    from bench.errors import UserError, unknown

    asked = _names(scenario) if scenario else ()
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


def _check_accuracy(accuracy: bool | None, subjects: Subjects) -> None:
    """Raise UserError where accuracy is asked for and there is nothing to measure it with."""
    from bench.errors import UserError

    if accuracy and subjects.weights is None:
        raise UserError("--accuracy needs trained weights: give --run, or --weights and --dataset")
    if accuracy and subjects.test is None:
        raise UserError("--accuracy needs a data set to test the weights on: give --dataset")


def _leave(records: list[ProfileRecord], interrupted: bool, out: Path) -> None:
    """Leave with the exit code that tells what became of the rows."""
    if interrupted:
        typer.echo(f"interrupted; {len(records)} finished rows are kept in {out}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    refused = [r for r in records if r.scenario == "server" and r.status == "unsupported"]
    if refused and any(record.status == "ok" for record in records):
        first = refused[0]
        name = f"{first.model.name} {first.runtime} {first.precision}"
        typer.echo(f"error: {name}: {first.reason}; the other rows are kept in {out}", err=True)
        raise typer.Exit(EXIT_USAGE)
    if not any(record.status == "ok" for record in records):
        typer.echo("error: none of the rows could be measured", err=True)
        raise typer.Exit(EXIT_USAGE)


@contextlib.contextmanager
def _early_server(wanted: bool) -> Iterator[MemoryServer | None]:
    """Start what measures memory while this process has imported torch and computed nothing."""
    if not wanted:
        yield None
        return
    from bench.measure import workload  # noqa: F401  # what the server needs
    from bench.measure.peak_memory import MemoryServer

    with MemoryServer(fork=True) as server:
        yield server


def _job(
    subjects: Subjects, options: dict[str, Any], timing: dict[str, Any], out: Path
) -> SittingJob:
    """Return what to measure; UserError for what cannot be, before anything is written."""
    from bench.execute.sitting import SittingJob
    from bench.machine.devices import resolve
    from bench.measure.profile import check
    from bench.record.files import check_writable
    from bench.spec.profile import ProfileSpec, TimingSpec
    from bench.spec.values import validated

    own = {
        "models": subjects.models,
        "timing": validated(TimingSpec, opt.given(timing)),
        "device": resolve(options["device"]),
    }
    spec = validated(ProfileSpec, options | own)
    check(spec)
    check_writable(out)
    return SittingJob(
        spec=spec,
        out=str(out),
        weights=subjects.weights,
        run_id=subjects.run_id,
        test=subjects.test,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def _batch_sizes(text: str) -> tuple[int | str, ...]:
    """Return whole numbers and the word auto."""
    from bench.errors import UserError

    sizes: list[int | str] = []
    for part in _names(text):
        if part != "auto" and not re.fullmatch(r"0*[1-9][0-9]{0,8}", part, re.ASCII):
            raise UserError(
                "--batch-size takes whole numbers from 1 to 999999999 and auto, with commas,"
                f" not {part!r}"
            )
        sizes.append(part if part == "auto" else int(part))
    return tuple(dict.fromkeys(sizes))


def _measure(
    job: SittingJob, times: int, server: MemoryServer | None
) -> tuple[list[ProfileRecord], bool]:
    """Return the records, and whether Ctrl-C cut them short."""
    from bench.execute.sitting import measure, repeat

    records: list[ProfileRecord] = []
    try:
        with screen() as (show, warn):

            def tell(progress: Progress) -> None:
                show(progress)
                if progress.stage == "measuring memory":  # in another process: import meanwhile
                    importlib.import_module("bench.report.charts.profile")

            found = (
                repeat(job, times, tell, warn) if times > 1 else measure(job, tell, warn, server)
            )
            records.extend(found)
    except KeyboardInterrupt:
        return records, True
    return records, False
