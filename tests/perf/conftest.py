"""After benchmarks, a line for each: what was found, what was wanted, and on which machine."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the benchmarks found; they also keep it, for comparing."""
    session = getattr(config, "_benchmarksession", None)
    measured = [] if session is None or session.disabled else session.benchmarks
    if not measured:
        return
    from bench.machine import cores, environment, waiting

    terminalreporter.section("what the benchmarks found")
    for benchmark in measured:
        terminalreporter.write_line(line(benchmark.name, dict(benchmark.extra_info)))
    machine = f"{environment.cpu_model()}, {cores.usable_cores()} cores"
    load = environment.load_1min()
    terminalreporter.write_line(
        f"on {machine}, load {'unknown' if load is None else f'{load:.1f}'},"
        f" threads waiting by {waiting.policy()}"
    )


def line(name: str, found: dict[str, Any]) -> str:
    """Return a benchmark's name, its figures and what was wanted of them."""
    wanted = found.pop("wanted", "nothing")
    figures = "; ".join(f"{what} {_short(value)}" for what, value in found.items()) or "no figure"
    return f"{name}: {figures} (wanted: {wanted})"


def _short(value: Any) -> str:
    """Return a figure, or each of several, in three digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return str(value)
