"""What stands in a report: the verdict first, then tables, charts, causes, conditions, doubts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.derive.findings import Findings
from bench.report.derive.headline import Headline, headlines
from bench.report.derive.profile_rows import starved
from bench.report.page import details, sections
from bench.report.page.blocks import Block, Bullets, Heading, Image, Paragraph, device, place, table
from bench.report.page.formats import MISSING, count, millions, number, percent, points, span
from bench.report.page.verdict import verdict
from bench.report.read.models import has_se
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell

TITLE = "senet-bench report"
MAX_MAIN_ROWS = 300
MAIN_COLUMNS: dict[str, str] = {
    "model": "name of the model",
    "stem": "cifar: 3×3, stride 1; imagenet: 7×7, stride 2, then max-pool",
    "SE": "the SE block's reduction ratio, or – without SE blocks",
    "data": "data set, with the number of images trained and tested on",
    "recipe": "training recipe",
    "epochs": "epochs trained",
    "trained on": "device and precision of the training",
    "seeds": "runs that differ in the seed alone; values are their means",
    "top-1 % (95 % CI: images)": (
        "test images whose first prediction is right, after the last epoch; Wilson's interval "
        "for the sampling of images alone, not for the luck of training"
    ),
    "seed sd": "standard deviation of top-1 over the seeds, in points",
    "top-5 %": "test images with the label among the five best predictions",
    "params M": "trainable parameters, millions",
    "MACs M": "multiply-accumulates of convolutions and linear layers for one image, millions",
    "FLOPs M": "2 × MACs",
    "epoch s": "seconds of one training epoch, training alone (median)",
    "img/s": (
        "throughput at the batch size behind the @, input already on the device; its 95 % interval "
        "over processes where there are several"
    ),
    "ms @1": "median latency of one image (single-stream)",
    "measured on": "device, precision and runtime of img/s and ms",
}


def contents(found: Findings, charts: Sequence[Image] = ()) -> list[Block]:
    """Return the blocks of a report; ``charts`` are the images beside it."""
    study = found.study
    return [
        Heading(TITLE, 1),
        Paragraph(_counts(found)),
        *verdict(found),
        Heading("Results"),
        *main_table(study),
        *_charts(charts),
        *sections.differences(found),
        *sections.attribution(found),
        *sections.fronts(found),
        *details.time_to_accuracy(found),
        *sections.speeds(found),
        *details.costs(study),
        *details.times(found),
        *details.by_class(found),
        *details.published(found),
        *details.conditions(study),
        *details.not_comparable(found),
        *details.set_aside(found),
        *details.reproduce(found),
        Heading("Columns"),
        Bullets(tuple((f"{name}:", what) for name, what in MAIN_COLUMNS.items())),
    ]


def _counts(found: Findings) -> str:
    study = found.study
    where = ", ".join(study.looked_in)
    counted = (
        f"{count(study.num_runs, 'run')} and {count(study.num_profiles, 'profile')} from {where}."
    )
    aside = len(found.set_aside)
    return counted + (f" {aside} set aside; see “Set aside” for which and why." if aside else "")


def _charts(charts: Sequence[Image]) -> list[Block]:
    return [Heading("Charts"), *charts] if charts else []


def main_table(study: Study) -> list[Block]:
    """Return the main table, as it also stands in the README."""
    lines = headlines(study)
    drawn = table(list(MAIN_COLUMNS), [_main_line(line) for line in lines[:MAX_MAIN_ROWS]])
    rest = len(lines) - MAX_MAIN_ROWS
    return [drawn, Paragraph(f"{rest} more rows are in results.csv.")] if rest > 0 else [drawn]


def _main_line(line: Headline) -> list[str]:
    model, cell, row = line.model, line.cell, line.row
    params = row.first.cost.params if row else cell.runs[0].record.params if cell else None
    return [
        model.name,
        model.stem,
        f"r={model.reduction}" if model.reduction else "yes" if has_se(model) else MISSING,
        *_training(cell),
        millions(params),
        millions(line.macs),
        millions(2 * line.macs if line.macs else None),
        number(cell.epoch_wall_s if cell else None),
        _throughput(line.offline),
        _latency(line.single),
        place(row) if row else MISSING,
    ]


def _training(cell: Cell | None) -> list[str]:
    if cell is None:
        return [MISSING] * 8
    seeds, record = len(cell.runs), cell.runs[0].record
    facts = record.dataset
    return [
        f"{cell.dataset} ({facts.num_train:,} + {facts.num_test:,})",
        cell.recipe.name,
        str(cell.recipe.epochs) if record.epochs else MISSING,
        f"{device(cell.environment)}, {record.spec.precision}",
        "1 (exploratory)" if seeds == 1 else str(seeds),
        percent(cell.top1_of_images) + ("" if cell.has_learnt else " (no better than guessing)"),
        points(cell.seed_spread.variance**0.5) if cell.seed_spread else MISSING,
        percent(cell.top5, ends=False),
    ]


def _throughput(row: CostRow | None) -> str:
    if row is None or row.timing is None:
        return MISSING
    rate = span(row.timing.rate) if row.timing.num_processes > 1 else number(row.timing.throughput)
    return f"{rate} @{row.first.batch_size}{_doubt(row)}"


def _latency(row: CostRow | None) -> str:
    return MISSING if row is None or row.timing is None else number(row.timing.p50_ms) + _doubt(row)


def _doubt(row: CostRow) -> str:
    """Return marks for a timing that is not to be relied on, or rests on one sitting."""
    marks = []
    if starved(row):
        marks.append("starved by other work")
    if row.timing and row.timing.iqr_share > 0.25:
        marks.append("unstable")
    if row.timing and row.timing.num_processes == 1:
        marks.append("one sitting")
    return f" ({', '.join(marks)})" if marks else ""
