"""Records as strict JSON: one form, read and written whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from bench.record.files import size_of_file, write_whole
from bench.record.profile import ProfileRecord
from bench.record.run import READABLE, RunRecord
from bench.spec.values import first_problem

Record = Annotated[RunRecord | ProfileRecord, Field(discriminator="kind")]
MAX_KEYS = 100_000  # a record has hundreds
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RECORD: TypeAdapter[RunRecord | ProfileRecord] = TypeAdapter(Record)


def to_json(record: RunRecord | ProfileRecord) -> str:
    """Return strict JSON (no NaN, no infinity), two spaces deep, ending in a newline."""
    data = record.model_dump(mode="json")
    return json.dumps(data, allow_nan=False, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> RunRecord | ProfileRecord:
    """Return the record in ``text``; ValueError says in one line why there is none."""
    try:
        data = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_ObjectReader().read
        )
        _refuse_half_characters(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not strict JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") not in ("run", "profile"):
        raise ValueError("not a record of senet-bench (no kind of run or profile)")
    version = data.get("schema_version")
    if version not in READABLE:
        able = " and ".join(map(str, READABLE))
        raise ValueError(f"schema version {version!r}; this program reads {able}")
    try:
        return _RECORD.validate_python(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


class _ObjectReader:
    """Makes dictionaries of a text's objects, which of two equal keys would keep the last."""

    def __init__(self) -> None:
        self.num_keys = 0

    def read(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.num_keys += len(pairs)
        if self.num_keys > MAX_KEYS:  # each would be a problem to tell of, found in minutes
            raise ValueError(f"more than {MAX_KEYS:,} keys")
        return each_once(pairs)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's pairs as a dictionary; ValueError for a key that stands twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return made


def _refuse_half_characters(text: str) -> None:
    r"""Raise ValueError for half a character, ``\ud800`` alone: no file or terminal can hold it."""
    if _HALF.search(text):
        for found in _STRING.finditer(text):
            if _HALF.search(found[0]):
                json.loads(found[0]).encode()  # UnicodeEncodeError is a ValueError


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON allows")


def write_record(path: Path, record: RunRecord | ProfileRecord) -> None:
    """Write a record whole; one that is already there is never overwritten (UserError)."""
    write_whole(path, to_json(record).encode(), exclusive=True)


def read_record(path: Path) -> RunRecord | ProfileRecord:
    """Return the record in a file; ValueError or OSError says why there is none."""
    size_of_file(path)
    return from_json(path.read_text(encoding="utf-8-sig"))
