"""The tidy table: one row per model × device × precision × runtime × batch size × mode.

Accuracy and training columns come from run records, cost columns from profile records, joined on
the model's identity. Fractions stay fractions and units are in the names.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.report import escape
from bench.report.derive.published import beside
from bench.report.read.models import depth, has_se, model_order
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell, Measured
from bench.spec.run import ModelSpec

if TYPE_CHECKING:
    import pandas as pd


Value = str | int | float | bool | None
SECONDS: dict[str, str] = {
    "data_s": "seconds to get the data set ready, mean over seeds, as are the next six",
    "build_s": "seconds to build the model or load its weights",
    "trial_s": "seconds to try runtimes",
    "compile_s": "seconds to compile or capture",
    "val_s": "seconds of validation",
    "checkpoint_s": "seconds of saving",
    "eval_s": "seconds of the test",
}
COLUMNS: dict[str, str] = {
    "model": "name of the model",
    "stem": "cifar (3×3, stride 1) or imagenet (7×7, stride 2, max-pool)",
    "se": "whether the model has squeeze-and-excitation blocks",
    "depth": "number of layers that the model is named after",
    "reduction": "the SE block's reduction ratio r",
    "se_bias": "whether the SE block's fully connected layers have a bias",
    "se_divisor": "of what the SE block's hidden width is a multiple, where it is rounded",
    "num_classes": "number of classes",
    "image_size": "side of the square input in pixels",
    "params": "number of trainable parameters",
    "macs": "multiply-accumulates of convolutions and linear layers, one image, no bias",
    "flops": "2 × macs",
    "operators": "operators that an eager call launches",
    "activations": "elements that convolutions and linear layers write, one image",
    "param_bytes": "size of the parameters",
    "bytes_moved": "bytes that one image moves in fp32 if nothing is fused or cached",
    "dataset": "label of the data set that the model was trained and tested on",
    "dataset_digest": "first 12 hex digits of the SHA-256 of all its pixels and labels",
    "num_train": "number of training images",
    "num_test": "number of test images",
    "recipe": "name of the training recipe",
    "epochs": "epochs trained",
    "train_batch_size": "images per training step",
    "train_precision": "precision of the training",
    "train_runtime": "runtime of the training; for auto the one it chose",
    "train_engine": "fast, or plain for the usual loop",
    "val_split": "share of the training images held out for validation",
    "train_device": "device that the model was trained on",
    "seeds": "number of runs that differ in the seed alone; the values are their means",
    "top1": "fraction of test images whose first prediction is right, last epoch",
    "top1_low": "lower end of its 95 % interval",
    "top1_high": "upper end of its 95 % interval",
    "top1_interval": "how the interval was found: Wilson for one seed, Student's t over seeds",
    "top5": "fraction of test images with the label among the five best predictions",
    "top5_low": "lower end of its 95 % interval",
    "top5_high": "upper end of its 95 % interval",
    "ece": "expected calibration error over 15 bins, mean over seeds",
    "published_top1": "a published top-1 of this model on this data set or a copy of it",
    "published_source": "who published it",
    "published_comparable": "yes, or why it may not stand beside top1",
    "test_loss": "mean cross-entropy on the test images",
    "epoch_wall_s": "seconds of one training epoch, training alone: median over epochs and seeds",
    "train_s": "seconds of all training epochs: mean over seeds",
    "train_throughput": "img/s while training: median over epochs and seeds",
    "target_top1": "validation top-1 to be reached",
    "target_s": "seconds of training until it was, mean over the seeds that reached it",
    **SECONDS,
    "device": "device of the profile",
    "device_name": "its name",
    "num_threads": "CPU threads used",
    "precision": "precision of the profile",
    "runtime": "runtime of the profile",
    "mode": "infer, or train for whole training steps",
    "scenario": "offline (throughput) or single_stream (latency, one image at a time)",
    "batch_size": "images per call",
    "throughput": "img/s: all timed images over all timed seconds",
    "throughput_low": "lower end of its 95 % interval",
    "throughput_high": "upper end of its 95 % interval",
    "latency_ms": "median time of one call",
    "latency_p90_ms": "90th percentile of the time of one call",
    "latency_p99_ms": "99th percentile, from 1,000 samples on",
    "latency_iqr_share": "interquartile range over the median; above 0.25 the row is unstable",
    "peak_memory_bytes": "peak memory of the work itself in a fresh process",
    "joules_per_image": "energy of the whole device per image",
    "utilisation": "2 × MACs × img/s (training: 3 times that) over the best arithmetic measured",
    "price_per_million": "price of a million images at the given price per hour",
    "cost_interval": "how the intervals of the cost were found",
    "num_blocks": "number of timed blocks",
    "num_processes": "number of processes that they come from",
    "flags": "what makes the timing doubtful",
    "status": "ok, or why there is no timing: unsupported, wrong, out_of_memory",
    "reason": "the same in words",
    "torch": "version of torch of the profile, else of the training",
    "run_ids": "records that the accuracy comes from",
    "profile_ids": "records that the cost comes from",
}


def rows(study: Study) -> list[dict[str, Value]]:
    """Return the rows of the table, each with every one of `COLUMNS`."""
    cells: defaultdict[ModelSpec, list[Cell]] = defaultdict(list)
    costs: defaultdict[ModelSpec, list[CostRow]] = defaultdict(list)
    for cell in study.cells:
        cells[cell.model].append(cell)
    for cost in study.costs:
        costs[cost.model].append(cost)
    empty = dict.fromkeys(COLUMNS)
    return [
        empty | _identity(model) | _trained(cell) | _cost(cost, study.price_per_hour)
        for model in sorted({*cells, *costs}, key=model_order)
        for cell in cells.get(model) or (None,)
        for cost in costs.get(model) or (None,)
    ]


def frame(study: Study) -> pd.DataFrame:
    """Return the table as a DataFrame with the columns of `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(rows(study), columns=list(COLUMNS)).convert_dtypes()


def to_csv(study: Study) -> str:
    """Return the table as CSV; cells that a spreadsheet would run are defused."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows(study):
        writer.writerow([_csv_cell(value) for value in row.values()])
    return text.getvalue()


def to_parquet(study: Study) -> bytes:
    """Return the table as Parquet; needs the extra ``parquet`` (pyarrow)."""
    file = io.BytesIO()
    frame(study).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _csv_cell(value: Value) -> Value:
    if isinstance(value, str):
        return escape.csv_cell(value)
    return format(value, ".8g") if isinstance(value, float) else value


def _identity(model: ModelSpec) -> dict[str, Value]:
    return {
        "model": model.name,
        "stem": model.stem,
        "se": has_se(model),
        "depth": depth(model),
        "reduction": model.reduction,
        "se_bias": model.se_bias,
        "se_divisor": model.se_divisor,
        "num_classes": model.num_classes,
        "image_size": model.image_size,
    }


def _trained(cell: Cell | None) -> dict[str, Value]:
    if cell is None:
        return {}
    record = cell.runs[0].record
    losses = [test.loss for test in cell.tests]
    return {
        "params": record.params,
        "macs": cell.macs,
        "flops": 2 * cell.macs if cell.macs else None,
        "dataset": cell.dataset,
        "dataset_digest": cell.digest[:12],
        "num_train": record.dataset.num_train,
        "num_test": record.dataset.num_test,
        "recipe": cell.recipe.name,
        "epochs": cell.recipe.epochs,
        "train_batch_size": cell.recipe.batch_size,
        "train_precision": record.spec.precision,
        "train_runtime": cell.runtime,
        "train_engine": record.spec.engine,
        "val_split": record.spec.val_split,
        "train_device": record.environment.device,
        "seeds": len(cell.runs),
        **_with_ends("top1", cell.top1),
        "top1_interval": cell.top1.method if cell.top1 else None,
        **_with_ends("top5", cell.top5),
        **_calibration(cell),
        **_published(cell),
        "test_loss": sum(losses) / len(losses) if losses else None,
        "epoch_wall_s": cell.epoch_wall_s,
        "train_s": cell.train_s.value if cell.train_s else None,
        "train_throughput": cell.train_throughput,
        "target_top1": record.spec.target_top1,
        "target_s": cell.seconds("target_s"),
        **{name: cell.seconds(name) for name in SECONDS},
        "torch": record.environment.packages.get("torch"),
        "run_ids": " ".join(run.record.id for run in cell.runs),
    }


def _calibration(cell: Cell) -> Mapping[str, Value]:
    said = [run.predictions.ece for run in cell.runs if run.predictions is not None]
    return {"ece": sum(said) / len(said) if said else None}


def _published(cell: Cell) -> Mapping[str, Value]:
    """Return the published figure with the fewest reasons against it."""
    figures = beside(cell)
    if not figures:
        return {}
    best = figures[0]
    return {
        "published_top1": best.published.top1,
        "published_source": best.published.source,
        "published_comparable": "; ".join(best.why_not) or "yes",
    }


def _with_ends(name: str, measured: Measured | None) -> Mapping[str, Value]:
    if measured is None:
        return {}
    return {name: measured.value, f"{name}_low": measured.low, f"{name}_high": measured.high}


def _cost(row: CostRow | None, price_per_hour: float | None) -> dict[str, Value]:
    if row is None:
        return {}
    record, env = row.first, row.environment
    return {
        "params": record.cost.params,
        "macs": record.cost.macs,
        "flops": record.cost.flops,
        "operators": record.cost.operators,
        "activations": record.cost.activations,
        "param_bytes": record.cost.param_bytes,
        "bytes_moved": record.cost.bytes_moved(),
        "peak_memory_bytes": row.peak_memory_bytes,
        "joules_per_image": row.joules_per_image,
        "utilisation": row.utilisation,
        "price_per_million": row.price_per_million(price_per_hour),
        "device": env.device,
        "device_name": env.device_name,
        "num_threads": env.num_threads,
        "precision": record.precision,
        "runtime": record.runtime,
        "mode": record.mode,
        "scenario": record.scenario,
        "batch_size": record.batch_size,
        "status": record.status,
        "reason": record.reason,
        "torch": env.packages.get("torch"),
        "profile_ids": " ".join(profile.record.id for profile in row.profiles),
        **_timing(row),
    }


def _timing(row: CostRow) -> dict[str, Value]:
    timing = row.timing
    if timing is None:
        return {}
    call = Measured.of(timing.call_s, timing.method)
    rate = Measured.of(timing.rate, timing.method)
    return {
        "throughput": timing.throughput,
        "throughput_low": rate.low,
        "throughput_high": rate.high,
        "latency_ms": timing.p50_ms,
        "latency_p90_ms": timing.p90_ms,
        "latency_p99_ms": timing.p99_ms,
        "latency_iqr_share": timing.iqr_share,
        "cost_interval": call.method if call.low is not None else None,
        "num_blocks": timing.num_blocks,
        "num_processes": timing.num_processes,
        "flags": "; ".join(timing.flags) or None,
    }
