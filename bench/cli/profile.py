"""``senet-bench profile``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt

if TYPE_CHECKING:
    from bench.profile import Progress
    from bench.record import ProfileRecord
    from bench.spec import ModelSpec, ProfileSpec

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
    weights: Annotated[
        str | None, typer.Option(help="Weights file of the model, or torchvision:IMAGENET1K_V2.")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Images a call, separated by commas.")] = "1,64",
    device: opt.DeviceName = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, tf32, bf16, fp16, separated by commas.")
    ] = "fp32",
    runtime: Annotated[
        str, typer.Option(help="eager, channels_last, compile, …, separated by commas.")
    ] = "eager",
    mode: Annotated[str, typer.Option(help="infer, train, or both with a comma.")] = "infer",
    seed: Annotated[int, typer.Option(help="Seed of inputs and of the order of turns.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("profiles"),
    as_json: opt.AsJson = False,
) -> None:
    """Measure what models cost to run: parameters, MACs, throughput, latency.

    Models and runtimes take turns in one sitting, so that their ratios hold although the machine
    drifts. Each row is kept as a record; Ctrl-C keeps what is finished.

    [bold]Examples[/bold]

      senet-bench profile se_resnet50 resnet50 --stem cifar

      senet-bench profile resnet50 --runtime eager,compile --batch-size 1,64,256 --device cuda

      senet-bench profile --run runs/se_resnet50-cifar-shapes-quick-e3-s0-1a2b3c4d --json
    """
    from bench import runtime as runtimes
    from bench.device import resolve
    from bench.folders import check_writable
    from bench.record import ProfileRecord as Record
    from bench.spec import ProfileSpec, validated

    subjects, build, run_ids = (
        _from_run(run, models, weights)
        if run
        else _from_names(
            models,
            weights,
            stem=stem,
            reduction=reduction,
            se_bias=se_bias,
            **_shape(dataset, data_dir, labels, num_classes, image_size),
        )
    )
    spec = validated(
        ProfileSpec,
        {
            "models": subjects,
            "device": resolve(device),
            "precisions": _names(precision),
            "runtimes": _names(runtime),
            "batch_sizes": opt.int_list("--batch-size", batch_size),
            "modes": _names(mode),
            "seed": seed,
        },
    )
    runtimes.check(spec.runtimes)
    check_writable(out)
    records: list[Record] = []
    try:
        with _screen() as tell:
            _measure(spec, build, run_ids, out, tell, records)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {len(records)} finished rows are kept in {out}", err=True)
        _show(records, out, as_json)
        raise typer.Exit(130) from None
    _show(records, out, as_json)
    if not any(record.status == "ok" for record in records):
        typer.echo("error: none of the rows could be measured", err=True)
        raise typer.Exit(2)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


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
        num_classes = 20 if coarse else CLASSES.get(dataset) or _count_folders(data_dir)
    return {"num_classes": num_classes, "image_size": 32 if size is None else size}


def _count_folders(data_dir: Path | None) -> int:
    from bench.errors import UserError

    train = data_dir / "train" if data_dir else None
    if train is None or not train.is_dir():
        raise UserError("--dataset folder needs --data-dir with train/<class>/, or --num-classes")
    number = sum(path.is_dir() for path in train.iterdir())
    if number == 0:
        raise UserError(f"{train} holds no class folders")
    return number


Chosen = tuple[tuple["ModelSpec", ...], Callable[["ModelSpec"], Any], dict["ModelSpec", str]]


def _from_names(models: list[str] | None, weights: str | None, **options: Any) -> Chosen:
    from bench.errors import UserError
    from bench.run import build, identify
    from senet import MODELS

    if not models:
        raise UserError(f"name a model to profile, or give --run; models: {', '.join(MODELS)}")
    if weights is not None and len(set(models)) > 1:
        raise UserError("--weights belongs to one model; profile the others by themselves")
    specs = [identify(name, **_options_of(name, options)) for name in dict.fromkeys(models)]
    return tuple(specs), lambda model: build(model, weights=weights), {}


def _options_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Leave out the SE block's options for models that have none; those are compared plain."""
    from senet import is_se

    se_only = () if is_se(name) else ("reduction", "se_bias")
    return {key: value for key, value in options.items() if key not in se_only}


def _from_run(run: Path, models: list[str] | None, weights: str | None) -> Chosen:
    from bench.errors import UserError
    from bench.run import WEIGHTS, build, load_run

    if models or weights:
        raise UserError("--run brings its model and weights; give no model and no --weights")
    record = load_run(run)
    if not (run / WEIGHTS).is_file():
        raise UserError(f"{run} has no weights ({WEIGHTS}); was the run {record.status}?")
    path = str(run / WEIGHTS)
    return (
        (record.spec.model,),
        lambda model: build(model, weights=path),
        {record.spec.model: record.id},
    )


def _measure(
    spec: ProfileSpec,
    build: Callable[[ModelSpec], Any],
    run_ids: dict[ModelSpec, str],
    out: Path,
    tell: Callable[[Progress], None],
    records: list[ProfileRecord],
) -> None:
    """Measure row after row, keeping each as a record file and in ``records`` at once."""
    from bench.cost import count
    from bench.profile import profile as rows
    from bench.record import write_record

    for record in rows(spec, build=build, count=count, run_ids=run_ids, on_progress=tell):
        write_record(out / f"{_file_name(record)}.json", record)
        records.append(record)


def _file_name(record: ProfileRecord) -> str:
    device = record.environment.device.replace(":", "")
    parts = (record.model.name, record.model.stem, device, record.precision, record.runtime)
    return "-".join((*parts, record.mode, f"b{record.batch_size}", record.scenario, record.id))


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[Progress], None]]:
    """Show on stderr what is being measured, drawing between blocks only, never beside them."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with _live(console) as tell:
            yield tell
    else:
        yield _plain()


def _plain() -> Callable[[Progress], None]:
    said: set[tuple[int, str, str]] = set()

    def tell(progress: Progress) -> None:
        line = (progress.group, progress.stage, progress.row)
        if line not in said:
            said.add(line)
            at = f"{progress.group + 1}/{progress.num_groups}"
            typer.echo(f"[{at}] {progress.stage} {progress.row}", err=True)

    return tell


@contextlib.contextmanager
def _live(console: Any) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, auto_refresh=False, transient=True) as bars:
        task = bars.add_task("starting", total=1.0)

        def tell(progress: Progress) -> None:
            done = (progress.group + progress.fraction) / max(1, progress.num_groups)
            what = f"{progress.stage} {progress.row}"
            bars.update(task, completed=done, description=what, refresh=True)

        yield tell


def _show(records: list[ProfileRecord], out: Path, as_json: bool) -> None:
    from rich.console import Console

    from bench.report.profile_console import cost_table, footnotes, timing_table
    from bench.report.profile_summary import summary

    if as_json:
        rows = [summary(record) for record in records]
        details = [record.model_dump(mode="json") for record in records]
        opt.print_json([{**row, "record": full} for row, full in zip(rows, details, strict=True)])
        return
    if not records:
        return
    console = Console(highlight=False)
    console.print(cost_table(records))
    console.print(timing_table(records))
    for note in footnotes(records):
        console.print(note, style="dim", markup=False)
    console.print(f"{len(records)} records in {out}", markup=False)
