"""``senet-bench status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as opt


def status(
    runs: Annotated[Path, typer.Argument(help="Folder of runs of 'senet-bench run --on …'.")],
    as_json: opt.AsJson = False,
) -> None:
    """Show how far the jobs of a suite are, by what they wrote into their folders.

    It works from every machine that sees the folder, while the suite runs and later.

    Example: senet-bench status runs/matched
    """
    from dataclasses import asdict

    from bench.errors import UserError
    from bench.execute.launch.follow import standings

    if not runs.is_dir():
        raise UserError(f"there is no folder {runs}")
    jobs = standings(runs)
    if as_json:
        opt.print_json([asdict(job) for job in jobs])
        return
    for job in jobs:
        silent = f", silent for {job.silent_s:.0f} s" if job.state == "running" else ""
        where = f" on {job.host}" if job.host else ""
        typer.echo(
            f"{job.state:>9} {100 * job.share:3.0f} %  {job.name}{where}  {job.what}{silent}"
        )
    if not jobs:
        typer.echo(f"no job in {runs} was handed to a launcher")
