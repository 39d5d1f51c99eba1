"""Records as strict JSON: one form, read and written whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from bench.record.files import write_whole
from bench.record.profile import ProfileRecord
from bench.record.run import SCHEMA_VERSION, RunRecord
from bench.spec.values import first_problem

Record = Annotated[RunRecord | ProfileRecord, Field(discriminator="kind")]
_RECORD: TypeAdapter[RunRecord | ProfileRecord] = TypeAdapter(Record)


def to_json(record: RunRecord | ProfileRecord) -> str:
    """Return strict JSON (no NaN, no infinity), two spaces deep, ending in a newline."""
    data = record.model_dump(mode="json")
    return json.dumps(data, allow_nan=False, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> RunRecord | ProfileRecord:
    """Return the record in ``text``; ValueError says in one line why there is none."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not strict JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") not in ("run", "profile"):
        raise ValueError("not a record of senet-bench (no kind of run or profile)")
    if data.get("schema_version") != SCHEMA_VERSION:
        version = data.get("schema_version")
        raise ValueError(f"schema version {version!r}; this program reads {SCHEMA_VERSION}")
    try:
        return _RECORD.validate_python(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON allows")


def write_record(path: Path, record: RunRecord | ProfileRecord) -> None:
    """Write a record whole; one that is already there is never overwritten (UserError)."""
    write_whole(path, to_json(record).encode(), exclusive=True)


def read_record(path: Path) -> RunRecord | ProfileRecord:
    """Return the record in a file; ValueError or OSError says why there is none."""
    return from_json(path.read_text(encoding="utf-8"))
