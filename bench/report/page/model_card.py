"""A model card of a trained model, as Hugging Face reads it: model-index metadata, then the facts.

The format of the metadata is that of https://github.com/huggingface/hub-docs, modelcard.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.report import escape
from bench.report.derive.findings import Findings
from bench.report.derive.headline import headlines
from bench.report.derive.reproduce import train_command
from bench.report.page.blocks import Block, Code, Heading, Paragraph, device, place, table
from bench.report.page.formats import count, millions, number, percent, span
from bench.report.page.markdown import render
from bench.report.read.models import versions
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell, Measured


def model_cards(found: Findings) -> dict[str, bytes]:
    """Return a card for each model that was trained or tested, by the name of its file."""
    cells = [cell for cell in found.study.cells if cell.top1]
    names = {cell.key: escape.file_name(found.labels[cell.key]) for cell in cells}
    return {f"model-card-{names[cell.key]}.md": _card(cell, found).encode() for cell in cells}


def _card(cell: Cell, found: Findings) -> str:
    # JSON is YAML that no name can end or extend.
    metadata = json.dumps(_metadata(cell), indent=2, ensure_ascii=True, allow_nan=False)
    return f"---\n{metadata}\n---\n\n{render(list(_blocks(cell, found)))}"


def _metadata(cell: Cell) -> dict[str, Any]:
    name = escape.one_line(f"{cell.model.name}-{cell.model.stem}-{cell.record.spec.data.name}")
    dataset = {
        "type": cell.record.spec.data.name,
        "name": escape.one_line(cell.dataset),
        "split": "test",
        "revision": cell.digest,
    }
    metrics = [*_metric("top-1", cell.top1), *_metric("top-5", cell.top5)]
    task = {"type": "image-classification", "name": "Image Classification"}
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    return {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["senet-bench", escape.one_line(cell.model.name)],
        "datasets": [cell.record.spec.data.name],
        "model-index": [{"name": name, "results": [result]}],
    }


def _metric(name: str, measured: Measured | None) -> list[dict[str, Any]]:
    """Return an accuracy as a share, with its interval in words."""
    if measured is None:
        return []
    told = {"type": "accuracy", "name": name, "value": round(measured.value, 6)}
    if measured.low is not None and measured.high is not None:
        ends = f"{measured.low:.6f} to {measured.high:.6f}"
        told["args"] = {"interval_95": ends, "method": measured.method}
    return [told]


def _blocks(cell: Cell, found: Findings) -> Iterator[Block]:
    facts, record = cell.record.dataset, cell.record
    yield Heading(found.labels[cell.key], 1)
    trained = f"trained with recipe {cell.recipe.name} for {count(cell.recipe.epochs, 'epoch')}"
    yield Paragraph(
        f"{cell.model.name}, {cell.model.stem} stem, {millions(record.params)} M parameters, "
        f"{trained if record.epochs else 'weights as loaded'}, tested on {cell.dataset} "
        f"({facts.num_train:,} training and {facts.num_test:,} test images of "
        f"{cell.model.image_size}×{cell.model.image_size} pixels)."
    )
    yield Heading("Accuracy")
    yield table(
        ("what", "% (95 %)", "interval"),
        [
            (name, percent(measured), measured.method)
            for name, measured in (("top-1", cell.top1), ("top-5", cell.top5))
            if measured is not None
        ],
    )
    seeds = ", ".join(map(str, cell.seeds))
    yield Paragraph(
        f"{count(len(cell.runs), 'run')}, seed {seeds}; after the last epoch, which no test "
        "accuracy chose. The interval is for the sampling of test images alone."
    )
    yield from _cost(cell, found)
    yield Heading("Conditions")
    env = cell.environment
    software = ", ".join(f"{name} {version}" for name, version in versions(env).items())
    yield Paragraph(f"Trained on {device(env)}, {record.spec.precision}; {software}.")
    yield Heading("Reproduce")
    yield Code((train_command(cell),))


def _cost(cell: Cell, found: Findings) -> Iterator[Block]:
    """Yield what the model costs on each machine that it was profiled on."""
    lines = [line for line in headlines(found.study) if line.cell is cell]
    rows = [row for line in lines for row in (line.offline, line.single) if row is not None]
    if rows:
        columns = ("measured on", "batch", "img/s", "ms a call", "timing")
        yield Heading("Cost")
        yield table(columns, [_cost_line(row) for row in rows])


def _cost_line(row: CostRow) -> tuple[str, ...]:
    timing = row.timing
    assert timing is not None
    rate, batch = span(timing.rate), str(row.first.batch_size)
    return place(row), batch, rate, number(timing.p50_ms), timing.method
