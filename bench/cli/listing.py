"""``senet-bench models``, ``datasets`` and ``recipes``: what the other commands can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as opt
from bench.cli.options import arguments

if TYPE_CHECKING:
    from bench.spec.run import ModelSpec


# So many models of a pattern are built to be counted; more are listed by their names alone.
MOST_COUNTED = 40


def models(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(help="Names or patterns, e.g. 'timm:se*' or 'cbam_*' (default: ours)."),
    ] = None,
    num_classes: Annotated[int, typer.Option(help="Classes of the classifier.")] = 10,
    image_size: Annotated[int, typer.Option(help="Pixels a side.")] = 32,
    as_json: opt.AsJson = False,
) -> None:
    """List the models with their parameters and multiply-accumulates, ours for every stem.

    MACs count convolutions, linear layers and attention of one image; FLOPs are twice that. Models
    of others are named by where they come from: torchvision:NAME, timm:NAME, hf-hub:ORG/NAME@REV,
    onnx:FILE, pt2:FILE, and py:FILE.py:FUNCTION or py:PACKAGE.MODULE:FUNCTION, which runs that
    code. Arguments for the builder follow in brackets: 'timm:vit_tiny_patch16_224[depth=4]'. Ours
    take the options of their attention there, too: 'se_resnet50[reduction=8,position=pre]'.

    [bold]Examples[/bold]

      senet-bench models 'timm:seresnet*' --image-size 224 --num-classes 1000

      senet-bench models 'cbam_*'
    """
    names = [name for pattern in patterns or [""] for name in _matching(pattern)]
    if len(names) > MOST_COUNTED and patterns:
        rows: list[dict[str, Any]] = [{"model": name} for name in names]
    else:
        asked = patterns or []
        rows = [r for name in names for r in _rows(name, num_classes, image_size, name in asked)]
    if as_json:
        arguments.print_json(rows)
        return
    title = f"{image_size}×{image_size} images, {num_classes} classes"
    _print_table(rows, title, {"params": "params", "macs": "MACs", "flops": "FLOPs"})


def _matching(pattern: str) -> list[str]:
    """Return the names that match a pattern, ours where it is empty; UserError for none."""
    from fnmatch import fnmatchcase

    import senet
    from bench.compute.model import known_names
    from bench.compute.sources import listed
    from bench.errors import unknown
    from bench.spec.model_name import parse

    if not pattern:
        return list(senet.MODELS)
    named = parse(pattern)
    if named.prefix:
        return listed(named) if _is_pattern(named.rest) else [pattern]
    every = list(dict.fromkeys([*senet.MODELS, *senet.names()]))
    found = [name for name in every if fnmatchcase(name, named.rest)]
    if not found:
        raise unknown("model", pattern, known_names())
    return found


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _rows(name: str, num_classes: int, image_size: int, asked: bool) -> list[dict[str, Any]]:
    """Return a row for each stem that the model can have; a foreign one has none.

    A model that cannot be built is an error if it was ``asked`` for by its name.
    """
    from functools import partial

    import senet
    from bench.compute.model import identify
    from bench.errors import UserError, one_line
    from bench.spec.values import STEMS

    sized = partial(identify, name, num_classes=num_classes, image_size=image_size)
    stems: tuple[str | None, ...] = (None,) if ":" in name else STEMS
    if name in set(senet.names()):
        stems = tuple(sorted(senet.stems_of(name)))
    try:
        return [_row(sized(stem=stem)) for stem in stems]
    except (UserError, senet.ModelError) as error:
        if asked:
            raise
        # Of a pattern, and not for images of this size; or of a package that is broken.
        return [{"model": name} if ":" in name else {"model": name, "problem": one_line(error)}]


def _row(model: ModelSpec) -> dict[str, Any]:
    import torch

    from bench.compute.model import build, num_params
    from bench.measure.count.cost import traced_macs

    with torch.device("meta" if model.origin is None else "cpu"):  # shapes without weights
        network = build(model)
    macs = traced_macs(network, model.image_size, model.in_channels)
    return {
        "model": model.name,
        "stem": model.stem,
        "se": None if model.origin else model.se is not None,
        "params": num_params(network),
        "macs": macs,
        "flops": 2 * macs,
    }


def datasets(as_json: opt.AsJson = False) -> None:
    """List the data sets and what each of them needs."""
    from bench.data import registry

    rows = [{"dataset": name, "what": entry.what} for name, entry in registry().items()]
    if as_json:
        arguments.print_json(rows)
    else:
        _print_table(rows, "Data sets", {})


def recipes(as_json: opt.AsJson = False) -> None:
    """List the training recipes with all their hyper-parameters."""
    from bench.spec.recipe import RECIPES

    rows = [recipe.model_dump(mode="json") for recipe in RECIPES.values()]
    if as_json:
        arguments.print_json(rows)
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

    keys = dict.fromkeys(key for row in rows for key in row)
    named = {key: headings.get(key, key) for key in keys}
    words = [named[key] for key in keys if not any(_is_number(row.get(key)) for row in rows)]
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    Console().print(render(table(list(named.values()), cells, title=title, words=words)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "–"
    return f"{value:,}" if isinstance(value, int) else str(value)
