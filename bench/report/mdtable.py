"""Markdown's tables and lists; cells must be escaped already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.report import escape
from bench.report.study import CostRow


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    ruled = [" | ".join(columns), " | ".join("---" for _ in columns)]
    return "\n".join(f"| {line} |" for line in [*ruled, *(" | ".join(cells) for cells in lines)])


def bullets(lines: Iterable[str]) -> str:
    """Return a list with a dash a line."""
    return "\n".join(f"- {line}" for line in lines)


def place(row: CostRow) -> str:
    """Return device, precision and runtime in one cell."""
    env = row.environment
    name = f" ({env.device_name})" if env.device_name.lower() != env.device else ""
    return escape.markdown(f"{env.device}{name}, {row.first.precision}, {row.first.runtime}")
