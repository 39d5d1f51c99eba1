"""``senet-bench models``, ``datasets`` and ``recipes``: what the other commands can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt

if TYPE_CHECKING:
    from bench.spec.run import ModelSpec


def models(
    num_classes: Annotated[int, typer.Option(help="Classes of the classifier.")] = 10,
    image_size: Annotated[int, typer.Option(help="Pixels a side.")] = 32,
    as_json: opt.AsJson = False,
) -> None:
    """List the models with their parameters and multiply-accumulates, for both stems.

    MACs count convolutions and linear layers of one image; FLOPs are twice that.
    """
    from itertools import product

    import senet
    from bench.compute.model import identify
    from bench.spec.values import STEMS

    rows = [
        _row(identify(name, stem=stem, num_classes=num_classes, image_size=image_size))
        for name, stem in product(senet.MODELS, STEMS)
    ]
    if as_json:
        opt.print_json(rows)
    else:
        title = f"{image_size}×{image_size} images, {num_classes} classes"
        _print_table(rows, title, {"params": "params", "macs": "MACs", "flops": "FLOPs"})


def _row(model: ModelSpec) -> dict[str, Any]:
    import torch

    import senet
    from bench.compute.model import build, num_params
    from bench.measure.cost import traced_macs

    with torch.device("meta"):  # shapes without weights
        network = build(model)
    macs = traced_macs(network, model.image_size)
    return {
        "model": model.name,
        "stem": model.stem,
        "se": senet.is_se(model.name),
        "params": num_params(network),
        "macs": macs,
        "flops": 2 * macs,
    }


def datasets(as_json: opt.AsJson = False) -> None:
    """List the data sets and what each of them needs."""
    from bench.data import DATASETS, DESCRIPTIONS

    rows = [{"dataset": name, "what": DESCRIPTIONS.get(name, "")} for name in DATASETS]
    if as_json:
        opt.print_json(rows)
    else:
        _print_table(rows, "Data sets", {})


def recipes(as_json: opt.AsJson = False) -> None:
    """List the training recipes with all their hyper-parameters."""
    from bench.spec.recipe import RECIPES

    rows = [recipe.model_dump(mode="json") for recipe in RECIPES.values()]
    if as_json:
        opt.print_json(rows)
        return
    turned = [{"": key, **{str(row["name"]): _text(row[key]) for row in rows}} for key in rows[0]]
    _print_table(turned[1:], "Recipes", {})


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "–"
        case list():
            return ", ".join(map(str, value)) or "–"
        case None | 0 | 0.0:
            return "–"
        case _:
            return str(value)


def _print_table(rows: list[dict[str, Any]], title: str, headings: dict[str, str]) -> None:
    """Print rows as a table: numbers right-aligned with thousands separated."""
    from rich.console import Console

    from bench.report.page.blocks import table
    from bench.report.page.terminal import render

    named = {key: headings.get(key, key) for key in rows[0]}
    words = [named[key] for key, value in rows[0].items() if not _is_number(value)]
    cells = [[_cell(value) for value in row.values()] for row in rows]
    Console().print(render(table(list(named.values()), cells, title=title, words=words)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "–"
    return f"{value:,}" if isinstance(value, int) else str(value)
