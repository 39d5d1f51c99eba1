"""``senet-bench compare``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.derive.gate import Change

EXIT_REGRESSION = 1


def compare(
    base: Annotated[Path, typer.Argument(help="Folder of records, or pytest-benchmark's JSON.")],
    new: Annotated[Path, typer.Argument(help="The same, measured later.")],
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="Exit with 1 when a time grew significantly by this much or more, e.g. 5%, "
            "when an accuracy fell significantly, or when MACs or parameters grew."
        ),
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Append a table to the GitHub job's summary.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compare also under unequal conditions, marked so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
) -> None:
    """Compare two sets of measurements: faster, slower, same, or not comparable.

    Times are compared as ratios with their intervals; a change inside the interval or the noise
    floor is called the same. Rows from other machines, versions or settings are not compared.

    [bold]Examples[/bold]

      senet-bench compare profiles/main profiles/branch --fail-on 5%

      senet-bench compare base.json new.json --fail-on 10% --github
    """
    from bench.errors import UserError
    from bench.report.derive import gate
    from bench.report.page import gate_tables

    threshold = _threshold(fail_on)
    job_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if github and not job_summary:
        raise UserError("--github needs the variable GITHUB_STEP_SUMMARY, which GitHub jobs have")
    changes = gate.compare(gate.read(base), gate.read(new), force)
    if not changes:
        raise UserError(f"{base} and {new} have nothing to compare")
    regressions = [c for c in changes if threshold is not None and c.regressed(threshold)]
    _show(changes, threshold, as_json)
    if github and job_summary:
        _append(Path(job_summary), gate_tables.markdown(changes, threshold))
        for change in regressions:
            typer.echo(gate_tables.annotation(change), err=as_json)
    if threshold is not None and all(change.interval is None for change in changes):
        raise UserError("no row could be compared, so nothing is known about regressions")
    if regressions:
        rows = "1 row" if len(regressions) == 1 else f"{len(regressions)} rows"
        typer.echo(f"{rows} regressed (times by {fail_on} or more)", err=True)
        raise typer.Exit(EXIT_REGRESSION)


def _show(changes: Sequence[Change], threshold: float | None, as_json: bool) -> None:
    import json

    from rich.console import Console

    from bench.report.page import gate_tables

    if as_json:
        data = [gate_tables.as_data(change, threshold) for change in changes]
        typer.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    console = Console()
    console.print(gate_tables.screen(changes))
    console.print(gate_tables.summary(changes), highlight=False)


def _append(path: Path, text: str) -> None:
    from bench.errors import UserError

    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _threshold(text: str | None) -> float | None:
    """Return the share that a text like ``5%`` names; UserError for anything else."""
    from bench.errors import UserError

    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not text.endswith("%") or not 0 <= value < 100:
        raise UserError(f"--fail-on takes a percentage such as 5%, not {text!r}")
    return value
