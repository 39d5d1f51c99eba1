"""The one exception that stands for something the user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Say in one line what is wrong and what would be right.

    The command line prints the message after ``error:`` and leaves with exit code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a table, listing the names that are."""
    return UserError(f"unknown {kind} {name!r}; choose from: {', '.join(known)}")
