"""``senet-bench compare``."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as opt
from bench.cli.options import arguments
from bench.stats.times import FEWEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.derive.speed.gate import Change, Wanted

EXIT_REGRESSION = 1
EXIT_UNDECIDED = 3
MAX_NAMED = 5
WHAT = "resnet18 se_resnet18 --stem cifar --batch-size 1,32 --no-memory --no-breakdown"


def compare(
    base: Annotated[
        str,
        typer.Argument(
            help="Records, or pytest-benchmark's JSON or .benchmarks; with --measure a revision."
        ),
    ],
    new: Annotated[str, typer.Argument(help="The same, to be held against it.")],
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure both now, their processes in turns: decides."),
    ] = False,
    what: Annotated[
        str, typer.Option("--profile", help="What to measure: arguments of senet-bench profile.")
    ] = WHAT,
    processes: Annotated[
        int, typer.Option(min=FEWEST, max=100, help="Processes of either side, with --measure.")
    ] = FEWEST,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, max=1e9, help="Seconds after which no more processes begin."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records, with --measure.")] = Path(
        "compared"
    ),
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="Exit with 1 when a time grew significantly by this much or more, e.g. 5%, "
            "when an accuracy fell significantly, or when MACs or parameters grew."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 3 when a row could not be decided, or is missing in NEW."
        ),
    ] = False,
    seed_sd: opt.SeedSd = None,
    margin: opt.Margin = None,
    github: Annotated[
        bool, typer.Option("--github", help="Append a table to the GitHub job's summary.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compare also under unequal conditions, marked so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
) -> None:
    """Compare two sets of measurements: faster, slower, same, not decided, or not comparable.

    Times are decided only by processes of both sides that took turns (--measure): what was
    measured apart may be apart for any reason. "Same" is what an equivalence test says within
    --fail-on (5% without it); the rest is not resolved. All p-values are corrected for the number
    of rows. Rows from other machines, versions or settings are not compared.

    [bold]Examples[/bold]

      senet-bench compare --measure main HEAD --fail-on 5%

      senet-bench compare --measure ../base . --profile "resnet50 --batch-size 64" --processes 9

      senet-bench compare profiles/main profiles/branch
    """
    from bench.report.derive.speed import gate
    from bench.report.page.tables import gate_tables

    threshold = _threshold(fail_on)
    wanted = gate.Wanted(
        time_margin=threshold or gate.MARGIN,
        top1_margin=arguments.positive_points("--margin", margin),
        seed_sd=arguments.positive_points("--seed-sd", seed_sd),
        force=force,
    )
    job_summary = _job_summary(github)
    early = ""
    if measure:
        early = _measured(base, new, what, out, processes, timeout)
        base, new = str(out / "base"), str(out / "new")
    changes = _changes(Path(base), Path(new), wanted, threshold)
    if early:
        changes = [
            replace(c, doubts=(*c.doubts, early)) if c.kind == "time" else c for c in changes
        ]
    regressions = [c for c in changes if threshold is not None and c.regressed(threshold)]
    _show(changes, threshold, as_json)
    if job_summary:
        _append(job_summary, gate_tables.markdown(changes, threshold))
        for change in regressions:
            typer.echo(gate_tables.annotation(change), err=as_json)
    _leave(changes, regressions, fail_on, strict)


def _measured(
    base: str, new: str, what: str, out: Path, processes: int, timeout: float | None
) -> str:
    """Measure both sides in turns, records into ``out``; return why it ended early, if it did."""
    from bench.errors import UserError
    from bench.execute.take_turns import checkout, measure_in_turns
    from bench.record.files import check_writable
    from bench.report.derive.speed.gate import OUT_OF_TIME

    sides = (out / "base", out / "new")
    if any(side.exists() and any(side.iterdir()) for side in sides):
        raise UserError(f"{out} holds measurements already; name another folder with --out")
    check_writable(out)

    def say(text: str) -> None:
        typer.echo(text, err=True)

    with checkout(base) as before, checkout(new) as after:
        turns = measure_in_turns(
            before, after, shlex.split(what), out, num_pairs=processes, timeout_s=timeout, say=say
        )
    if not turns.out_of_time:
        return ""
    early = f"{OUT_OF_TIME} after {turns.num_pairs} of {processes} pairs of processes"
    say(early)
    return early


def _changes(base: Path, new: Path, wanted: Wanted, threshold: float | None) -> list[Change]:
    """Return the rows; UserError where there is none, or none at all can be told about."""
    from bench.errors import UserError
    from bench.report.derive.speed import gate

    changes = gate.compare(gate.read(base), gate.read(new), wanted)
    if not changes:
        raise UserError(f"{base} and {new} have nothing to compare")
    if threshold is not None and all(change.interval is None for change in changes):
        raise UserError("no row could be compared, so nothing is known about regressions")
    return changes


def _leave(
    changes: Sequence[Change], regressions: Sequence[Change], fail_on: str | None, strict: bool
) -> None:
    """Leave with the exit code that tells what was found."""
    gone = [change for change in changes if change.verdict == "gone"]
    if gone:
        names = ", ".join(change.what for change in gone[:MAX_NAMED])
        more = ", …" if len(gone) > MAX_NAMED else ""
        typer.echo(f"warning: {_rows(gone)} of BASE missing in NEW: {names}{more}", err=True)
    undecided = [change for change in changes if change.verdict == "not decided"]
    if undecided:
        notes = "; ".join(dict.fromkeys(change.note for change in undecided))
        typer.echo(f"warning: {_rows(undecided)} not decided: {notes}", err=True)
    if regressions:
        typer.echo(f"{_rows(regressions)} regressed (times by {fail_on} or more)", err=True)
        raise typer.Exit(EXIT_REGRESSION)
    if strict and (undecided or gone):
        raise typer.Exit(EXIT_UNDECIDED)


def _rows(changes: Sequence[Change]) -> str:
    return "1 row" if len(changes) == 1 else f"{len(changes)} rows"


def _job_summary(github: bool) -> Path | None:
    """Return the file of the GitHub job's summary; UserError where it is wanted and not there."""
    from bench.errors import UserError

    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if github and not place:
        raise UserError("--github needs the variable GITHUB_STEP_SUMMARY, which GitHub jobs have")
    return Path(place) if github and place else None


def _show(changes: Sequence[Change], threshold: float | None, as_json: bool) -> None:
    import json

    from rich.console import Console

    from bench.report.page.tables import gate_tables

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
