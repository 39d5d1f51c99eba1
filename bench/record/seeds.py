"""Why an experiment has as many seeds as it has: the looks that were taken, and what they told.

Format history:
    1  first published form.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from bench.record.files import write_whole
from bench.spec.run import ModelSpec
from bench.spec.values import Frozen, PositiveFloat, PositiveInt, first_problem

SEEDS = "seeds.json"
SCHEMA_VERSION: Final = 1
Stopped = Literal["decided", "narrow", "hidden", "most seeds", "go on", "not comparable"]


class Asked(Frozen):
    """A difference of two models: what the last look at it told, and why no more followed.

    ``estimate`` ± ``half_width`` are fractions; the interval holds at all looks together. ``go on``
    is one that is to get more seeds; ``why`` says what is not comparable.
    """

    first: ModelSpec
    second: ModelSpec
    num_seeds: PositiveInt
    stopped: Stopped
    estimate: float | None = None
    half_width: Annotated[float, Field(ge=0)] | None = None
    why: str | None = None


class SeedsRecord(Frozen):
    """The looks of an experiment, by seeds a model; what was ``wanted`` is a fraction."""

    kind: Literal["seeds"] = "seeds"
    schema_version: Literal[1] = SCHEMA_VERSION
    wanted: PositiveFloat
    most_seeds: PositiveInt
    looks: tuple[PositiveInt, ...]
    asked: tuple[Asked, ...]


def write_seeds(folder: Path, record: SeedsRecord) -> None:
    """Write the record of a folder of runs, in place of the one of fewer looks."""
    text = json.dumps(record.model_dump(mode="json"), allow_nan=False, indent=2) + "\n"
    write_whole(folder / SEEDS, text.encode())


def read_seeds(path: Path) -> SeedsRecord:
    """Return the record in a file; ValueError or OSError says in one line why there is none."""
    try:
        return SeedsRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
