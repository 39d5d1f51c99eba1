"""The one exception that stands for something the user can mend."""

from __future__ import annotations

from collections.abc import Iterable

EXIT_USAGE = 2


class UserError(ValueError):
    """Say in one line what is wrong and what would be right.

    The command line prints the message after ``error:`` and leaves with exit code `EXIT_USAGE`.
    """


class FieldError(UserError):
    """Say what is wrong with the value of one field, such as ``precisions.0``.

    The command line names the option that the value came from in the field's place.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field, self.problem = field, problem


def said(error: object) -> str:
    """Return the first line of what an error says; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return an error's name and the first line of what it says."""
    name = type(error).__name__
    return f"{name}: {said(error)}" if str(error).strip() else name


def one_line(error: object) -> str:
    """Return what an error says, on one line; its name where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a table: the names that are, and the nearest."""
    names = list(known)
    hint = did_you_mean(name, names)
    return UserError(f"unknown {kind} {name!r}; choose from: {', '.join(names)}{hint}")


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return ``; did you mean …?`` with the nearest of the known names, or ``otherwise``."""
    import difflib  # takes longer to import than this file, and only errors need it

    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.6)
    return f"; did you mean {', '.join(near)}?" if near else otherwise
