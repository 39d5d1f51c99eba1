"""senet-bench report: records -> Markdown, CSV and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments

DEFAULT_FOLDERS = (Path("runs"), Path("profiles"))


def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders with records (searched to the bottom); default: runs and profiles.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("reports/latest"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Show also differences that are not comparable, marked so."),
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="Price of an hour of the profiled machine: adds the cost of images."),
    ] = None,
    seed_sd: opt.SeedSd = None,
    margin: opt.Margin = None,
    model_card: Annotated[
        bool,
        typer.Option(
            "--model-card", help="Also write a Hugging Face model card of each trained model."
        ),
    ] = False,
    readme: Annotated[
        Path | None,
        typer.Option(help="Also fill the marked places of this README with the main table."),
    ] = None,
) -> None:
    """Render records into report.html, report.md, results.csv and charts.

    Without folders it takes what train and profile left in runs and profiles.

    Example: senet-bench report runs profiles --out reports/mine
    """
    from rich.console import Console

    from bench.errors import UserError
    from bench.report.derive.seeds import Stated
    from bench.report.page import terminal
    from bench.report.page.readme import check, fill
    from bench.report.page.tables.main_table import lettered, main_notes, narrow_table
    from bench.report.page.verdict import lines
    from bench.report.write import render

    if price_per_hour is not None and not 0 < price_per_hour < float("inf"):
        raise UserError(f"--price-per-hour must be a positive price, not {price_per_hour}")
    places = folders or [folder for folder in DEFAULT_FOLDERS if folder.exists()]
    if not places:
        raise UserError(
            "nothing to report yet: no folder runs or profiles here. This makes one, in a minute: "
            "senet-bench train resnet18 --dataset shapes --recipe quick. Or name the folder that "
            "holds the records"
        )
    stated = Stated(
        arguments.positive_points("--seed-sd", seed_sd),
        arguments.positive_points("--margin", margin),
    )
    if readme is not None:
        check(readme)
    rendered = render(places, out, force, price_per_hour, stated, model_card)
    if readme is not None:
        fill(readme, rendered.findings, out / "report.md")
    console = Console()
    console.print(terminal.render(narrow_table(rendered.study)))
    console.out(lettered(main_notes(rendered.study)), highlight=False)
    console.print(terminal.bullets(lines(rendered.findings)))
    aside = rendered.set_aside
    if aside:
        console.print(f"{len(aside)} set aside; the report says which and why", highlight=False)
    typer.echo(f"\nOpen {out / 'report.html'}")
    typer.echo(f"{len(rendered.files) - 1} more files beside it: report.md, results.csv, charts")
