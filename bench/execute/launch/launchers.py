"""Who starts jobs: this machine, Slurm or Ray. One entry each is all that there is to add.

No scheduler of our own: a launcher hands a folder's job to an engine that people run, and asks
that engine whether the job is dead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError, unknown
from bench.spec.values import assigned


@dataclass(frozen=True)
class Launcher:
    """``submit`` starts the job of a folder, on a node of its own if that is asked for.

    It returns the engine's name of the job, by which ``is_dead`` and ``cancel`` know it later, from
    other processes too, and raises UserError where the engine refuses. ``max_jobs`` are handed over
    at most at a time. The nodes of one that ``is_remote`` may not see the folder of runs. Where
    they write elsewhere, ``bring`` adds what a job has told to its events here, and when it has
    ended first brings its folder, whole. ``engine`` tells apart those that know other jobs.
    """

    submit: Callable[[Path, bool], str]
    is_dead: Callable[[str], bool]
    cancel: Callable[[str], None]
    max_jobs: int
    close: Callable[[], None] = lambda: None
    is_remote: bool = True
    bring: Callable[[str, Path], None] = lambda job_id, folder: None
    engine: str = ""


# The module of each, which has `open_launcher(options, runs)`, and the extra that it needs.
LAUNCHERS: dict[str, tuple[str, str]] = {
    "slurm": ("bench.execute.launch.slurm", "slurm"),
    "ray": ("bench.execute.launch.on_ray", "ray"),
}
HERE = "here"


def check_launcher(name: str) -> None:
    """Raise UserError for a launcher that there is not."""
    if name != HERE and name not in LAUNCHERS:
        raise unknown("launcher", name, (HERE, *LAUNCHERS))


def open_launcher(name: str, options: Mapping[str, Any], runs: Path) -> Launcher:
    """Return a launcher; UserError for one that is not installed, or an option that it has not."""
    check_launcher(name)
    module, extra = LAUNCHERS[name]
    try:
        made: Launcher = importlib.import_module(module).open_launcher(dict(options), runs)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bench"):
            raise
        raise UserError(
            f"--on {name} needs {error.name}: pip install 'senet-bench[{extra}]'"
        ) from None
    return made


def chosen_launcher(
    table: Mapping[str, Any], on: str | None, texts: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Return who does the jobs and its options, by a file's table and what overrules it.

    Options in the table are those of its ``on``: they are left out where another is asked for.
    """
    filed = dict(table)
    own = filed.pop("on", HERE)
    if not isinstance(own, str):
        raise UserError(f"launcher.on: should be a string (got {own!r})")
    name = own if on is None else on
    if filed and own == HERE:
        raise UserError(f"launcher: {next(iter(filed))} needs on = {' or '.join(LAUNCHERS)}")
    return name, (filed if name == own else {}) | launcher_options(texts)


def launcher_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options in texts like ``partition=gpu,timeout_min=600``; UserError for others."""
    parts = ",".join(texts).split(",") if texts else []
    return assigned(parts, "--set-launcher takes option=value with commas")


def take(options: dict[str, Any], name: str, default: int, fewest: int = 1) -> int:
    """Take a whole number out of a launcher's options; UserError for another value."""
    value = options.pop(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < fewest:
        raise UserError(f"launcher option {name} takes a whole number from {fewest}, not {value!r}")
    return value
