"""``senet-bench show`` and ``senet-bench columns``: what is known of a run, what columns mean."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments, names

PROFILES = Path("profiles")


def show(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a run, such as runs/resnet18-…", autocompletion=names.runs),
    ],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders with what to hold beside it (default: the run's neighbours, profiles).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show one run: its curve, accuracy with interval, cost, and how its twin does.

    Example: senet-bench show runs/resnet18-imagenet-shapes-quick-e3-s0-1a2b3c4d
    """
    from rich.console import Console

    from bench.errors import UserError
    from bench.report.derive.findings import findings
    from bench.report.page import terminal
    from bench.report.page.tables import one_run
    from bench.report.read.load import load
    from bench.report.read.study import study

    folder = run.parent if run.is_file() else run
    if not folder.is_dir():
        raise UserError(f"{run} is not there; name the folder of a run, as train prints it")
    beside = folders or [folder.resolve().parent, *([PROFILES] if PROFILES.is_dir() else [])]
    found = findings(study(load([folder, *beside])))
    cell = one_run.cell_of(folder, found)
    console = Console(highlight=False)
    console.print(terminal.bullets(one_run.lines(cell, found)))
    costs = one_run.costs(cell, found)
    if costs is not None:
        console.print()
        console.print(terminal.render(costs))
    else:
        typer.echo(f"\nNot profiled yet: senet-bench profile {shlex.quote(str(folder))}")


def columns(
    as_json: opt.AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print bench/report/COLUMNS.md.")
    ] = False,
) -> None:
    """Say what each column of the main table and of results.csv means.

    results.csv, results.parquet, bench.api.load and profile --json have the same columns.
    """
    from rich.console import Console

    from bench.report.page.blocks import table
    from bench.report.page.readme import column_definitions
    from bench.report.page.tables.main_table import MAIN_DEFINITIONS
    from bench.report.page.terminal import render
    from bench.report.table.rows import DEFINITIONS

    if as_json:
        arguments.print_json({"main_table": MAIN_DEFINITIONS, "results": DEFINITIONS})
    elif markdown:
        typer.echo(column_definitions(), nl=False)
    else:
        heads = ("column", "definition")
        for title, told in (("Main table", MAIN_DEFINITIONS), ("results.csv", DEFINITIONS)):
            drawn = table(heads, list(told.items()), title=title, words=heads)
            Console(highlight=False).print(render(drawn))
