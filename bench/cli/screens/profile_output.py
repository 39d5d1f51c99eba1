"""What ``senet-bench profile`` prints and draws once the rows are there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.options import arguments

if TYPE_CHECKING:
    from bench.execute.jobs import ProfileJob
    from bench.record.profile import ProfileRecord
    from bench.report.read.profiled import CostRow


@dataclass(frozen=True)
class Wanted:
    """What to show of the records."""

    as_json: bool
    price_per_hour: float | None
    reconcile: bool
    charts: bool


def _show(records: list[ProfileRecord], job: ProfileJob, wanted: Wanted) -> None:
    from bench.report.derive.speed.profile_rows import cost_rows, seconds_spent

    rows = cost_rows(records, wanted.price_per_hour)
    files = _draw(rows, job.out) if wanted.charts and records else []
    spent = seconds_spent(records, arguments.seconds_since_start())
    if wanted.as_json:
        found = _as_json(rows, job, wanted.reconcile)
        arguments.print_json(found | {"seconds": spent})
    elif records:
        _print(rows)
        if wanted.reconcile:
            _print_reconciliation(job)
        for path in files:
            typer.echo(f"chart: {path}")
        told = (
            f"{spent['total']:.1f} s, of which {spent['outside']:.1f} s neither timed nor warm-up"
        )
        typer.echo(f"{len(records)} records in {job.out}; {told}")


def _draw(rows: list[CostRow], out: Path) -> list[Path]:
    """Return the charts' files; what cannot be written is a warning: the tables are to come."""
    from bench.errors import UserError
    from bench.record.files import write_set
    from bench.report.charts.draw import draw
    from bench.report.charts.profile import plans

    files: dict[str, bytes] = {}
    for chart in draw(plans(rows)):
        files |= {f"{chart.name}.png": chart.png, f"{chart.name}.svg": chart.svg}
    try:
        write_set(out, files)
    except UserError as error:
        typer.echo(f"warning: {error}", err=True)
        return []
    return [out / name for name in files]


def _as_json(rows: list[CostRow], job: ProfileJob, reconcile: bool) -> dict[str, Any]:
    from bench.report.derive.speed.attention_tax import taxes, twins
    from bench.report.derive.speed.profile_rows import strict
    from bench.report.page.tables.profile_tables import base_rows, speed
    from bench.report.table.rows import profile_row

    bases = base_rows(rows)
    listed = []
    for row in rows:
        base = bases.get(row.key)
        found = speed(row, base) if base and base is not row else None
        listed.append(
            profile_row(row)
            | {
                "speed_over_base": asdict(found) if found else None,
                "base": f"{base.model.name} {base.first.runtime}" if base else None,
                "records": [profile.record.model_dump(mode="json") for profile in row.profiles],
            }
        )
    tax = [
        {
            "model": model.model_dump(mode="json"),
            "against": twin.name,
            "quantities": [asdict(one) for one in taxes(rows, model, twin)],
        }
        for model, twin in twins(rows)
    ]
    se_tax = {  # as it was called while there was no other attention
        model.name: [asdict(one) | {"se": one.full} for one in taxes(rows, model, twin)]
        for model, twin in twins(rows)
        if model.se
    }
    found_counts = _reconciled(job) if reconcile else {}
    counts = {name: [c.model_dump() for c in counters] for name, counters in found_counts.items()}
    found_all = {"rows": listed, "attention_tax": tax, "se_tax": se_tax, "reconciliation": counts}
    return {key: strict(value) for key, value in found_all.items()}


def _print(rows: list[CostRow]) -> None:
    from bench.report.page.tables import profile_tables as tables
    from bench.report.page.tables.deployments import accuracy_tables, scenario_tables
    from bench.report.page.terminal import console as open_console
    from bench.report.page.terminal import render

    console = open_console()
    console.print(render(tables.cost_table(rows)))
    console.print(render(tables.timing_table(rows)))
    for note in tables.footnotes(rows):
        console.print(note, style="dim", markup=False)
    console.print()
    for table in (
        *accuracy_tables(rows),
        *scenario_tables(rows),
        *tables.detail_tables(rows),
        *tables.tax_tables(rows),
    ):
        console.print(render(table))


def _reconciled(job: ProfileJob) -> dict[str, Any]:
    """Return every counter's total for each model, taken apart."""
    from bench.compute.model import build
    from bench.measure.count.reconcile import reconcile

    return {model.title: reconcile(build(model), model.image_size) for model in job.spec.models}


def _print_reconciliation(job: ProfileJob) -> None:
    from bench.report.page.tables.profile_tables import reconciliation_table
    from bench.report.page.terminal import console, render

    for name, counters in _reconciled(job).items():
        console().print(render(reconciliation_table(name, counters)))
