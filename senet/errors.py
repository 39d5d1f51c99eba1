"""The one exception of this package that stands for something the user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class ModelError(ValueError):
    """Say in one line what is wrong with a model's name, options or weights."""


def unknown(kind: str, name: object, known: Iterable[str]) -> ModelError:
    """Return the error for a name that is not in a table, listing the names that are."""
    return ModelError(f"unknown {kind} {name!r}; choose from: {', '.join(known)}")


def positive_int(what: str, value: object) -> int:
    """Return ``value`` if it is an integer of at least 1; ModelError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{what} must be an integer of at least 1, not {value!r}")
    return value
