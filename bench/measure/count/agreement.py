"""Counts that are believed because counters that share no code agree on them."""

from __future__ import annotations

from collections.abc import Mapping


class CountersDisagreeError(RuntimeError):
    """Independent counters gave different multiply-accumulates; no number is to be believed."""


def check_agreement(counts: Mapping[str, float], what: str) -> None:
    """Raise `CountersDisagreeError` unless all counters found the same number."""
    if len(set(counts.values())) > 1:
        first = next(iter(counts.values()))
        listed = ", ".join(f"{name} {n:,.0f} ({n - first:+,.0f})" for name, n in counts.items())
        raise CountersDisagreeError(f"multiply-accumulates of {what} differ: {listed}")
