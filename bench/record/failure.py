"""A cell of an experiment that failed, as a file beside what it would have left.

Strict JSON, versioned, never overwritten. A later success renames the file, so that nothing is
lost and nobody takes the failure for the state of things.

Format history:
    1  first published form.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from bench.record.files import write_whole
from bench.spec.values import Frozen, first_problem

SCHEMA_VERSION: Final = 1
ARCHIVED = ".old"
_NAME = re.compile(r"failure-(\d+)\.json")


class Failure(Frozen):
    """What became of a cell: ``reason`` in one line, and the last lines that it wrote."""

    kind: Literal["failure"] = "failure"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    reason: str
    created_at: str
    wall_s: float
    last_lines: tuple[str, ...] = ()


def write_failure(folder: Path, failure: Failure) -> Path:
    """Write a failure into a cell's folder, under the next number that is free."""
    number = 1 + max(
        (int(path.name.split("-")[1].split(".")[0]) for path in _all(folder)), default=0
    )
    path = folder / f"failure-{number}.json"
    text = json.dumps(failure.model_dump(mode="json"), allow_nan=False, indent=2) + "\n"
    write_whole(path, text.encode(), exclusive=True)
    return path


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("failure-*.json*") if _NAME.match(path.name)]


def failures(folder: Path) -> list[Path]:
    """Return the failures of a cell since its last success, the oldest first."""
    return sorted(path for path in _all(folder) if is_failure(path))


def is_failure(path: Path) -> bool:
    """Say whether a file is named as failures are."""
    return _NAME.fullmatch(path.name) is not None


def read_failure(path: Path) -> Failure:
    """Return the failure in a file; ValueError or OSError says in one line why there is none."""
    try:
        return Failure.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def archive_failures(folder: Path) -> None:
    """Rename the failures of a cell that has succeeded."""
    for path in failures(folder):
        path.replace(path.with_name(path.name + ARCHIVED))
