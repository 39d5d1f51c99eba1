"""The main table: a trained model beside its cost on one machine, one line each.

The report and the terminal show it, the README in short; which columns each has stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report.derive.headline import Headline, headlines
from bench.report.derive.speed.profile_rows import doubts, starved
from bench.report.escape import shortened
from bench.report.page.blocks import Block, Paragraph, Table, device, place, rate, table
from bench.report.page.formats import GUESSES, MISSING, millions, number, percent, points
from bench.report.read.deployed import is_of_row
from bench.report.read.models import attention_text
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell

MAX_MAIN_ROWS = 300
UNSTABLE_IQR_SHARE = 0.25
Words = Callable[[Headline], str]


@dataclass(frozen=True)
class Shown:
    """A column of the main table: what it is called, what it means, what stands in it.

    ``narrow`` is what a terminal shows, which has no room for the others; ``first`` columns are in
    sight when the page opens; a ``shared`` one is said once where all rows have the same.
    """

    heading: str
    definition: str
    cell: Words
    narrow: Words | None = None
    first: bool = False
    shared: bool = False


def _trained(told: Callable[[Cell], str]) -> Words:
    """Return what tells of a trained model; the sign for missing of one that was only profiled."""
    return lambda line: told(line.cell) if line.cell is not None else MISSING


def _se(line: Headline) -> str:
    return attention_text(line.model) or MISSING


def _data(cell: Cell) -> str:
    facts = cell.record.dataset
    return f"{cell.dataset} ({facts.num_train:,} + {facts.num_test:,})"


def _epochs(cell: Cell) -> str:
    return str(cell.recipe.epochs) if cell.record.epochs else MISSING


def _seeds(cell: Cell) -> str:
    return "1 (exploratory)" if len(cell.runs) == 1 else str(len(cell.runs))


def _tested(told: Callable[[Cell], str], own: Callable[[Headline], str]) -> Words:
    """Return what tells of what was tested; of a row that timed another artefact its own, or –."""

    def words(line: Headline) -> str:
        cell, row = line.cell, line.row
        if row is None or (cell is not None and is_of_row(cell, row)):
            return told(cell) if cell is not None else MISSING
        return own(line) if line.own else MISSING

    return words


def _top1(cell: Cell) -> str:
    return f"{percent(cell.top1)}{_state(cell)}"


def _own_top1(line: Headline) -> str:
    """Return the mean over the seeds whose weights were timed, and how many were not."""
    cell = line.cell
    num_seeds = len(cell.runs) if cell else 1
    some = f" ({len(line.own)} of {num_seeds} seeds)" if len(line.own) < num_seeds else ""
    return f"{percent(line.own_top1)}{some}{_state(cell) if cell else ''}"


def _state(cell: Cell) -> str:
    """Return whether a training was stopped before its accuracy meant something."""
    if not cell.has_learnt:
        return GUESSES
    return " (still learning)" if cell.still_learning else ""


def _params(line: Headline) -> str:
    row, cell = line.row, line.cell
    return millions(row.first.cost.params if row else cell.record.params if cell else None)


def _throughput(line: Headline) -> str:
    row = line.offline
    if row is None or row.timing is None:
        return MISSING
    return f"{rate(row.timing)} @{row.first.batch_size}{_doubt(row)}"


def _narrow_throughput(line: Headline) -> str:
    row = line.offline
    return number(row.timing.throughput) if row and row.timing else MISSING


def _latency(line: Headline) -> str:
    row = line.single
    return MISSING if row is None or row.timing is None else number(row.timing.p50_ms) + _doubt(row)


def _narrow_latency(line: Headline) -> str:
    row = line.single
    return number(row.timing.p50_ms) if row and row.timing else MISSING


def _doubt(row: CostRow) -> str:
    """Return marks for a timing that is not to be relied on, or rests on one sitting."""
    marks = []
    if starved(row):
        marks.append("starved by other work")
    if row.timing and row.timing.iqr_share > UNSTABLE_IQR_SHARE:
        marks.append("unstable")
    if row.timing and row.timing.num_processes == 1:
        marks.append("one sitting")
    return f" ({', '.join(marks)})" if marks else ""


MAIN_COLUMNS: tuple[Shown, ...] = (
    Shown(
        "model",
        "name of the model",
        lambda line: line.model.name,
        narrow=lambda line: line.model.name,
        first=True,
    ),
    Shown(
        "stem",
        "cifar: 3×3, stride 1; imagenet: 7×7, stride 2, then max-pool",
        lambda line: line.model.stem or MISSING,
        narrow=lambda line: line.model.stem or MISSING,
        first=True,
    ),
    Shown(
        "SE",
        "the SE block's reduction ratio, another attention by its kind, or – without any",
        _se,
    ),
    Shown(
        "data",
        "data set, with the number of images trained and tested on",
        _trained(_data),
        narrow=_trained(lambda cell: cell.dataset),
        shared=True,
    ),
    Shown(
        "recipe",
        "training recipe",
        _trained(lambda cell: cell.recipe.name),
        narrow=_trained(lambda cell: cell.recipe.name),
        shared=True,
    ),
    Shown(
        "epochs",
        "epochs trained",
        _trained(_epochs),
        narrow=_trained(lambda cell: str(cell.recipe.epochs)),
        shared=True,
    ),
    Shown(
        "trained on",
        "device and precision of the training",
        _trained(lambda cell: f"{device(cell.environment)}, {cell.record.spec.precision}"),
        shared=True,
    ),
    Shown(
        "seeds",
        "runs that differ in the seed alone; values are their means",
        _trained(_seeds),
        narrow=_trained(lambda cell: str(len(cell.runs))),
        first=True,
        shared=True,
    ),
    Shown(
        "top-1 % (95 % CI: images)",
        "test images whose first prediction is right, after the last epoch; Wilson's interval "
        "for the sampling of images alone, not for the luck of training; of what was timed, the "
        "mean over its seeds, and – where only another artefact was tested; still learning: the "
        "last epoch raised the accuracy of training (or validation) by more than a point",
        _tested(_top1, _own_top1),
        narrow=_tested(
            lambda cell: percent(cell.top1, digits=1),
            lambda line: percent(line.own_top1, digits=1),
        ),
        first=True,
    ),
    Shown(
        "seed sd",
        "standard deviation of top-1 over the seeds, in points",
        _tested(
            lambda cell: MISSING if cell.seed_sd is None else points(cell.seed_sd),
            lambda line: MISSING if line.own_seed_sd is None else points(line.own_seed_sd),
        ),
    ),
    Shown(
        "top-5 %",
        "test images with the label among the five best predictions",
        _tested(
            lambda cell: percent(cell.top5, ends=False),
            lambda line: percent(line.own_top5, ends=False),
        ),
    ),
    Shown("params M", "trainable parameters, millions", _params, first=True),
    Shown(
        "MACs M",
        "multiply-accumulates of convolutions, linear layers and attention for one image, millions",
        lambda line: millions(line.macs),
        narrow=lambda line: number(line.macs / 1e6 if line.macs else None),
        first=True,
    ),
    Shown("FLOPs M", "2 × MACs", lambda line: millions(2 * line.macs if line.macs else None)),
    Shown(
        "epoch s",
        "seconds of one training epoch, training alone (median)",
        _trained(lambda cell: number(cell.epoch_wall_s)),
        narrow=_trained(lambda cell: number(cell.epoch_wall_s)),
    ),
    Shown(
        "img/s",
        "throughput at the batch size behind the @, input already on the device; its 95 % interval "
        "over processes where there are several",
        _throughput,
        narrow=_narrow_throughput,
        first=True,
    ),
    Shown(
        "ms @1",
        "median latency of one image (single-stream)",
        _latency,
        narrow=_narrow_latency,
        first=True,
    ),
    Shown(
        "measured on",
        "device, precision and runtime of img/s and ms",
        lambda line: place(line.row) if line.row else MISSING,
        narrow=lambda line: line.row.environment.device if line.row else MISSING,
        shared=True,
    ),
)
MAIN_DEFINITIONS: dict[str, str] = {shown.heading: shown.definition for shown in MAIN_COLUMNS}


def main_table(study: Study) -> list[Block]:
    """Return the main table with every column."""
    lines = headlines(study)
    drawn = table(
        list(MAIN_DEFINITIONS),
        [[shown.cell(line) for shown in MAIN_COLUMNS] for line in lines[:MAX_MAIN_ROWS]],
        first=[shown.heading for shown in MAIN_COLUMNS if shown.first],
        shared=[shown.heading for shown in MAIN_COLUMNS if shown.shared],
    )
    rest = len(lines) - MAX_MAIN_ROWS
    return [drawn, Paragraph(f"{rest} more rows are in results.csv.")] if rest > 0 else [drawn]


def narrow_table(study: Study) -> Table:
    """Return the main table for a terminal: what all rows share stands in the title alone."""
    lines = headlines(study)
    shared: dict[str, str] = {}
    columns: list[Shown] = []
    for shown in (shown for shown in MAIN_COLUMNS if shown.narrow):
        # What a line does not have, such as the recipe of what was only profiled, is no difference.
        values = {_narrow(shown, line) for line in lines} - {MISSING}
        if not shown.shared or len(values) > 1:
            columns.append(shown)
        elif values:
            shared[shown.heading] = values.pop()
    told = main_notes(study)
    marks = [[_marks(line, told)] if told else [] for line in lines]
    rows = [[_narrow(shown, line) for shown in columns] for line in lines]
    return table(
        [*(_narrow_heading(shown, lines) for shown in columns), *(["see"] if told else [])],
        [row + mark for row, mark in zip(rows, marks, strict=True)],
        title=", ".join(f"{name} {value}" for name, value in shared.items()),
        words=[shown.heading for shown in columns if shown.shared or shown.heading in IDENTITY],
    )


def main_notes(study: Study) -> list[str]:
    """Return what disturbed the times of the main table, each thing once: a, b, c … in ``see``."""
    told = dict.fromkeys(text for line in headlines(study) for text in _doubts(line))
    return list(told)[: len(LETTERS)]


def lettered(notes: Sequence[str]) -> str:
    """Return notes one a line, each behind its letter."""
    return "\n".join(f"{mark}  {note}" for mark, note in zip(LETTERS, notes, strict=False))


def _doubts(line: Headline) -> list[str]:
    rows = [row for row in (line.offline, line.single) if row is not None]
    told = [text for row in rows for text in doubts(row)]
    once = any(row.timing and row.timing.num_processes == 1 for row in rows)
    return [*told, "one sitting"] if once else told


def _marks(line: Headline, notes: Sequence[str]) -> str:
    found = dict.fromkeys(LETTERS[notes.index(t)] for t in _doubts(line) if t in notes)
    return " ".join(found)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
IDENTITY = ("model", "stem")


def _narrow(shown: Shown, line: Headline) -> str:
    assert shown.narrow is not None
    return shortened(shown.narrow(line), 48 if shown.heading in IDENTITY else 24)


def _narrow_heading(shown: Shown, lines: Sequence[Headline]) -> str:
    """Return a heading that leaves room, with the batch size where all lines have the same."""
    batches = {line.offline.first.batch_size for line in lines if line.offline}
    if shown.heading == "img/s" and len(batches) == 1:
        return f"img/s @{batches.pop()}"
    return shown.heading.replace("95 % CI: ", "")
