"""What is known of one run: how it learnt, how accurate it is, what it costs, how its twin does."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UserError
from bench.report.derive.findings import Findings
from bench.report.page.blocks import Table, device, place, table
from bench.report.page.formats import count, number, percent, spark
from bench.report.page.wording import verdict
from bench.report.read.trained import Cell

Item = tuple[str, str]
MAX_TWINS = 3
MAX_BESIDE = 3  # jobs that are named


def cell_of(run: Path, found: Findings) -> Cell:
    """Return the model that the run in a folder trained, beside its other seeds.

    Raises UserError when no record that can be used lies there.
    """
    for cell in found.study.cells:
        if any(Path(one.path).resolve().parent == run.resolve() for one in cell.runs):
            return cell
    reasons = [s.reason for s in found.set_aside if Path(s.path).resolve().parent == run.resolve()]
    told = reasons[0] if reasons else "it holds no run.json"
    raise UserError(f"{run} is no finished run: {told}")


def lines(cell: Cell, found: Findings) -> list[Item]:
    """Return what is known, each with its lead."""
    record, facts = cell.record, cell.record.dataset
    told = [
        (
            f"{found.labels[cell.key]}:",
            f"{record.params:,} parameters, {cell.dataset} ({facts.num_train:,} training and "
            f"{facts.num_test:,} test images), recipe {cell.recipe.name}, "
            f"{count(cell.recipe.epochs, 'epoch')}, {count(len(cell.runs), 'seed')}, "
            f"{device(cell.environment)}, {record.spec.precision}, {cell.runtime}",
        ),
        *_curve(cell),
        (
            "Test:",
            f"top-1 {percent(cell.top1)} % (95 %, images alone), "
            f"top-5 {percent(cell.top5, ends=False)} %",
        ),
    ]
    if cell.train_s is not None:
        rate = number(cell.train_throughput)
        told.append(("Training:", f"{number(cell.train_s.value)} s in epochs, {rate} img/s"))
    return [*told, *_shared(cell), *_twins(cell, found), *_warnings(cell)]


def _curve(cell: Cell) -> list[Item]:
    """Return loss and accuracy over the epochs of the first seed, as sparklines."""
    epochs = cell.record.epochs
    if not epochs:
        return []
    loss = [epoch.loss for epoch in epochs]
    top1 = [epoch.top1 for epoch in epochs]
    val = [epoch.val_top1 for epoch in epochs if epoch.val_top1 is not None]
    told = [
        ("Loss:", f"{spark(loss)}  {loss[0]:.3f} → {loss[-1]:.3f}"),
        ("Top-1 while training:", f"{spark(top1)}  {100 * top1[0]:.1f} → {100 * top1[-1]:.1f} %"),
    ]
    if val:
        told.append(("Validation:", f"{spark(val)}  {100 * val[0]:.1f} → {100 * val[-1]:.1f} %"))
    return told


def _shared(cell: Cell) -> list[Item]:
    """Return which other jobs the machine did meanwhile, by which seconds of training suffer."""
    beside = [run.record.shared_with for run in cell.runs if run.record.shared_with]
    names = sorted({name for shared in beside for name in shared})
    if not names:
        return []
    more = f" and {len(names) - MAX_BESIDE} more" if len(names) > MAX_BESIDE else ""
    jobs = ", ".join(names[:MAX_BESIDE]) + more
    runs = f"{len(beside)} of {count(len(cell.runs), 'run')}"
    return [("Not alone:", f"the machine of {runs} did other jobs too ({jobs})")]


def _twins(cell: Cell, found: Findings) -> list[Item]:
    """Return how it compares with models that differ in one thing, SE first."""
    pairs = [
        pair
        for pair in found.pairs.pairs
        if cell.key in (pair.first.key, pair.second.key)
        and len(pair.factors) == 1
        and not pair.mismatches
    ]
    chosen = sorted(pairs, key=lambda pair: pair.factors != ("attention",))[:MAX_TWINS]
    margin = found.stated.margin
    return [(f"Differs in {p.factors[0]} alone:", verdict(p, found.labels, margin)) for p in chosen]


def _warnings(cell: Cell) -> list[Item]:
    warnings = dict.fromkeys(w for run in cell.runs for w in run.record.warnings)
    return [("Warning:", warning) for warning in warnings]


def costs(cell: Cell, found: Findings) -> Table | None:
    """Return what the model costs in each setting it was profiled in; None where in none."""
    rows = [row for row in found.study.costs if row.model == cell.model and row.timing]
    if not rows:
        return None
    lines = [
        [
            place(row),
            row.first.mode,
            f"{row.first.batch_size}{' single' if row.first.scenario == 'single_stream' else ''}",
            number(row.timing.throughput),
            number(row.timing.p50_ms),
        ]
        for row in rows
        if row.timing
    ]
    columns = ("measured on", "mode", "batch", "img/s", "ms")
    return table(columns, lines, title="Cost", words=columns[:2])
