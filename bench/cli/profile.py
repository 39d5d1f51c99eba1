"""``senet-bench profile``."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.profile_screen import screen
from bench.errors import EXIT_USAGE
from bench.signals import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from bench.memory import MemoryServer
    from bench.profile import Progress
    from bench.record import ProfileRecord
    from bench.report.study import CostRow
    from bench.sitting import SittingJob
    from bench.spec import ModelSpec

CLASSES = {"shapes": 10, "cifar10": 10, "cifar100": 100}


def profile(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models; see 'senet-bench models'.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Profile the trained model of this run's folder instead.")
    ] = None,
    stem: opt.StemName = "imagenet",
    dataset: Annotated[
        str, typer.Option(help="Whose classes and image size: cifar10, cifar100, folder, shapes.")
    ] = "shapes",
    data_dir: opt.DataDir = None,
    labels: opt.Labels = "fine",
    num_classes: Annotated[
        int | None, typer.Option(help="Classes (default: the data set's).")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side (default: the data set's).")
    ] = None,
    reduction: opt.Reduction = None,
    se_bias: opt.SEBias = None,
    se_divisor: opt.SEDivisor = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights file of the model, or torchvision:IMAGENET1K_V2.")
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images a call, separated by commas; auto: the most that fit.")
    ] = "1,64",
    device: opt.DeviceName = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, tf32, bf16, fp16, separated by commas.")
    ] = "fp32",
    runtime: Annotated[
        str,
        typer.Option(help="eager, compile, compile_frozen, openvino, … with commas; see below."),
    ] = "eager",
    mode: Annotated[str, typer.Option(help="infer, train, or both with a comma.")] = "infer",
    repeat: Annotated[
        int, typer.Option(min=1, help="Repeat in this many fresh processes, for the interval.")
    ] = 1,
    interval: Annotated[
        float | None, typer.Option(help="Half-width of the ratio's interval to aim for (0.01).")
    ] = None,
    max_s: Annotated[
        float | None,
        typer.Option(
            "--max-seconds", help="Most seconds of timing, a row on average (8; single calls: 3)."
        ),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, in fresh processes.")] = True,
    breakdown: Annotated[
        bool, typer.Option(help="Measure where the time of eager calls goes.")
    ] = True,
    keep_freed: Annotated[
        bool,
        typer.Option(
            help="Keep freed memory for the next tensor, which is steadier and faster (CPU, glibc)."
        ),
    ] = True,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="The machine's price: gives cost a million images.")
    ] = None,
    reconcile: Annotated[
        bool, typer.Option(help="Explain the difference to other counters of MACs and FLOPs.")
    ] = False,
    charts: Annotated[bool, typer.Option(help="Draw the roofline and where time goes.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of inputs and of the order of turns.")] = 0,
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

      senet-bench profile --run runs/resnet18-cifar-shapes-quick-e3-s0-1a2b3c4d
    """
    with _early_server(memory and repeat == 1) as server:
        built = {"stem": stem, "reduction": reduction, "se_bias": se_bias, "se_divisor": se_divisor}
        shape = (dataset, data_dir, labels, num_classes, image_size)
        subjects = (
            _from_run(run, models, weights) if run else _from_names(models, weights, built, shape)
        )
        axes = {
            "device": device,
            "precisions": _names(precision),
            "runtimes": _names(runtime),
            "batch_sizes": _batch_sizes(batch_size),
            "modes": _names(mode),
        }
        timing = {"rel_precision": interval, "max_s": max_s, "single_stream_s": max_s}
        how = {"seed": seed, "memory": memory, "breakdown": breakdown, "keep_freed": keep_freed}
        job = _job(subjects, axes | how, timing, out)
        records, interrupted = _measure(job, repeat, server)
    _show(records, job, Wanted(as_json, price_per_hour, reconcile, charts))
    _leave(records, interrupted, out)


@dataclass(frozen=True)
class Subjects:
    """The models to profile, where their weights come from, and the run that trained them."""

    models: tuple[ModelSpec, ...]
    weights: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What to show of the records."""

    as_json: bool
    price_per_hour: float | None
    reconcile: bool
    charts: bool


def _leave(records: list[ProfileRecord], interrupted: bool, out: Path) -> None:
    """Leave with the exit code that tells what became of the rows."""
    if interrupted:
        typer.echo(f"interrupted; {len(records)} finished rows are kept in {out}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(record.status == "ok" for record in records):
        typer.echo("error: none of the rows could be measured", err=True)
        raise typer.Exit(EXIT_USAGE)


@contextlib.contextmanager
def _early_server(wanted: bool) -> Iterator[MemoryServer | None]:
    """Start what measures memory while this process has imported torch and computed nothing."""
    if not wanted:
        yield None
        return
    from bench import run, workload  # noqa: F401  # what the server needs
    from bench.memory import MemoryServer

    with MemoryServer(fork=True) as server:
        yield server


def _job(
    subjects: Subjects, options: dict[str, Any], timing: dict[str, Any], out: Path
) -> SittingJob:
    """Return what to measure; UserError for what cannot be, before anything is written."""
    from bench.device import resolve
    from bench.folders import check_writable
    from bench.profile import check
    from bench.sitting import SittingJob
    from bench.spec import ProfileSpec, TimingSpec, validated

    own = {
        "models": subjects.models,
        "timing": validated(TimingSpec, opt.given(timing)),
        "device": resolve(options["device"]),
    }
    spec = validated(ProfileSpec, options | own)
    check(spec)
    check_writable(out)
    return SittingJob(spec=spec, out=str(out), weights=subjects.weights, run_id=subjects.run_id)


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


def _shape(
    dataset: str, data_dir: Path | None, labels: str, num_classes: int | None, size: int | None
) -> dict[str, int]:
    """Return the classes and image size to build for, without reading any image."""
    from bench.data import DATASETS
    from bench.errors import unknown

    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    if num_classes is None:
        coarse = dataset == "cifar100" and labels == "coarse"
        num_classes = 20 if coarse else CLASSES.get(dataset) or _count_folders(dataset, data_dir)
    return {"num_classes": num_classes, "image_size": 32 if size is None else size}


def _count_folders(dataset: str, data_dir: Path | None) -> int:
    from bench.errors import UserError

    if dataset != "folder":
        raise UserError(f"how many classes {dataset} has is not known here: give --num-classes")
    train = data_dir / "train" if data_dir else None
    if train is None or not train.is_dir():
        raise UserError("--dataset folder needs --data-dir with train/<class>/, or --num-classes")
    number = sum(path.is_dir() for path in train.iterdir())
    if number == 0:
        raise UserError(f"{train} holds no class folders")
    return number


def _from_names(
    models: list[str] | None,
    weights: str | None,
    built: dict[str, Any],
    shape: tuple[str, Path | None, str, int | None, int | None],
) -> Subjects:
    from bench.errors import UserError
    from bench.run import identify
    from senet import MODELS

    if not models:
        raise UserError(f"name a model to profile, or give --run; models: {', '.join(MODELS)}")
    if weights is not None and len(set(models)) > 1:
        raise UserError("--weights belongs to one model; profile the others by themselves")
    built = built | _shape(*shape)
    identified = (identify(name, beside=models, **built) for name in dict.fromkeys(models))
    return Subjects(tuple(identified), weights)


def _from_run(run: Path, models: list[str] | None, weights: str | None) -> Subjects:
    from bench.errors import UserError
    from bench.run import WEIGHTS, load_run

    if models or weights:
        raise UserError("--run brings its model and weights; give no model and no --weights")
    record = load_run(run)
    if not (run / WEIGHTS).is_file():
        raise UserError(f"{run} has no weights ({WEIGHTS}); was the run {record.status}?")
    return Subjects((record.spec.model,), str(run / WEIGHTS), record.id)


def _measure(
    job: SittingJob, times: int, server: MemoryServer | None
) -> tuple[list[ProfileRecord], bool]:
    """Return the records, and whether Ctrl-C cut them short."""
    from bench.sitting import measure, repeat

    records: list[ProfileRecord] = []
    try:
        with screen() as (show, warn):

            def tell(progress: Progress) -> None:
                show(progress)
                if progress.stage == "measuring memory":  # in another process: import meanwhile
                    importlib.import_module("bench.report.profile_charts")

            found = (
                repeat(job, times, tell, warn) if times > 1 else measure(job, tell, warn, server)
            )
            records.extend(found)
    except KeyboardInterrupt:
        return records, True
    return records, False


def _show(records: list[ProfileRecord], job: SittingJob, wanted: Wanted) -> None:
    from bench.report.profile_summary import cost_rows, seconds_spent

    rows = cost_rows(records)
    files = _draw(rows, Path(job.out)) if wanted.charts and records else []
    spent = seconds_spent(records, opt.seconds_since_start())
    if wanted.as_json:
        found = _as_json(rows, job, wanted.price_per_hour, wanted.reconcile)
        opt.print_json(found | {"seconds": spent})
    elif records:
        _print(rows, wanted.price_per_hour)
        if wanted.reconcile:
            _print_reconciliation(job)
        for path in files:
            typer.echo(f"chart: {path}")
        told = (
            f"{spent['total']:.1f} s, of which {spent['outside']:.1f} s neither timed nor warm-up"
        )
        typer.echo(f"{len(records)} records in {job.out}; {told}")


def _draw(rows: list[CostRow], out: Path) -> list[Path]:
    """Return the charts' files; what cannot be written is a warning: the tables are to come."""
    from bench.errors import UserError
    from bench.record import write_whole
    from bench.report.charts import draw
    from bench.report.profile_charts import plans

    paths: list[Path] = []
    try:
        for chart in draw(plans(rows)):
            for ending, content in (("png", chart.png), ("svg", chart.svg)):
                path = out / f"{chart.name}.{ending}"
                write_whole(path, content)
                paths.append(path)
    except UserError as error:
        typer.echo(f"warning: {error}", err=True)
    return paths


def _as_json(
    rows: list[CostRow], job: SittingJob, price_per_hour: float | None, reconcile: bool
) -> dict[str, Any]:
    from bench.report.profile_console import base_rows, speed
    from bench.report.profile_summary import strict, summary
    from bench.report.se_tax import taxes, twins

    bases = base_rows(rows)
    listed = []
    for row in rows:
        base = bases.get(row.key)
        found = speed(row, base) if base and base is not row else None
        listed.append(
            summary(row, price_per_hour)
            | {
                "speed_over_base": asdict(found) if found else None,
                "base": f"{base.model.name} {base.first.runtime}" if base else None,
                "records": [profile.record.model_dump(mode="json") for profile in row.profiles],
            }
        )
    se_tax = {
        model.name: [asdict(tax) for tax in taxes(rows, model, twin)] for model, twin in twins(rows)
    }
    found_counts = _reconciled(job) if reconcile else {}
    counts = {name: [c.model_dump() for c in counters] for name, counters in found_counts.items()}
    found_all = {"rows": listed, "se_tax": se_tax, "reconciliation": counts}
    return {key: strict(value) for key, value in found_all.items()}


def _print(rows: list[CostRow], price_per_hour: float | None) -> None:
    from rich.console import Console

    from bench.report import profile_console as tables

    console = Console(highlight=False)
    console.print(tables.cost_table(rows))
    console.print(tables.timing_table(rows))
    for note in tables.footnotes(rows):
        console.print(note, style="dim", markup=False)
    console.print()
    for table in (*tables.detail_tables(rows, price_per_hour), *tables.tax_tables(rows)):
        console.print(table)


def _reconciled(job: SittingJob) -> dict[str, Any]:
    """Return every counter's total for each model, taken apart."""
    from bench.reconcile import reconcile
    from bench.run import build

    return {
        f"{model.name}, {model.stem} stem": reconcile(build(model), model.image_size)
        for model in job.spec.models
    }


def _print_reconciliation(job: SittingJob) -> None:
    from rich.console import Console

    from bench.report.profile_console import reconciliation_table

    for name, counters in _reconciled(job).items():
        Console(highlight=False).print(reconciliation_table(name, counters))
