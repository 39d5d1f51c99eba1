"""The values that specifications are made of, and how what is wrong with one is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from bench.errors import FieldError, UserError

Stem = Literal["cifar", "imagenet"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
Labels = Literal["fine", "coarse"]
Mode = Literal["infer", "train"]
Engine = Literal["fast", "plain"]
Scenario = Literal["offline", "single_stream", "end_to_end", "server"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16", "int8")
TRAINING_PRECISIONS = PRECISIONS[:-1]  # int8 is made of a trained network
STEMS: tuple[Stem, ...] = ("cifar", "imagenet")
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 32)]  # of which torch makes others within 64 bits
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class Frozen(BaseModel):
    """Immutable, without unknown keys, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def assigned(texts: Iterable[str], rule: str) -> dict[str, Any]:
    """Return the values in texts like ``lr=0.1``, as JSON where they are some, else as text.

    UserError says the ``rule``, such as ``--set takes field=value``, for a text that is none.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, said = text.partition("=")
        if not (key and equals and said):
            raise UserError(f"{rule}, not {text!r}")
        try:
            found[key] = json.loads(said)
        except ValueError:
            found[key] = said
    return found


T = TypeVar("T", bound=Frozen)


def validated(cls: type[T], data: dict[str, Any]) -> T:
    """Return ``cls`` made of ``data``; FieldError names the first thing that is wrong in it."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        field, problem = _first_problem(error)
        raise FieldError(field, problem + _known_keys(cls, error)) from None


def _known_keys(cls: type[BaseModel], error: ValidationError) -> str:
    """Return the keys that may stand where the first problem is an unknown one, else nothing."""
    problem = _most_telling(error)
    if problem["type"] != "extra_forbidden":
        return ""
    known: Any = cls
    for part in problem["loc"][:-1]:
        if isinstance(part, int):  # an entry of a list: its type is known already
            continue
        field = getattr(known, "model_fields", {}).get(part)
        known = _model_in(field.annotation) if field is not None else None
    names = getattr(known, "model_fields", {})
    return f"; known keys: {', '.join(names)}" if names else ""


def _model_in(annotation: Any) -> Any:
    """Return the model inside X | None and tuple[X, ...], or None when there is none."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def first_problem(error: ValidationError) -> str:
    """Return the first problem that pydantic found as one line: where, what, and the value."""
    return str(FieldError(*_first_problem(error)))


def _first_problem(error: ValidationError) -> tuple[str, str]:
    """Return where the first problem is, nothing for the whole, and what it is."""
    problem = _most_telling(error)
    # pydantic also names the branch of a union, such as constrained-int, which no user wrote
    loc = [str(part) for part in problem["loc"]]
    where = ".".join(part for part in loc if not re.search(r"^(constrained-|literal\[)", part))
    if problem["type"] == "extra_forbidden":
        return "", f"unknown key {where!r}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = _PLAIN_WORDS.get(problem["type"], message)
    given = problem["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return where, message + shown


def _most_telling(error: ValidationError) -> Any:
    """Return an unknown key, which a missing one may be misspelt as, else the first problem."""
    problems = error.errors(include_url=False, include_context=False)
    return next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])


# In the words of files and command lines, not of Python's types.
_PLAIN_WORDS = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a table",
    "model_type": "should be a table",
    "too_short": "should not be empty",
    "missing": "is missing",
}
