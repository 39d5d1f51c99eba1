"""What is printed of a benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.perf.conftest import line


def test_a_line_has_figures_and_what_was_wanted_of_them() -> None:
    found = {"runtime": "eager", "ratio": 2.0612, "s": {"a": [1.0, 20.5]}, "wanted": "ratio ≥ 2"}
    expected = "test_x: runtime eager; ratio 2.06; s a 1, 20.5 (wanted: ratio ≥ 2)"
    assert line("test_x", found) == expected
    assert line("test_y", {}) == "test_y: no figure (wanted: nothing)"


def test_benchmarks_end_with_a_line_each_and_the_machine() -> None:
    """Benchmarks that are run as tests do not."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["tests/perf/test_timing.py", "-k", "calls_by_the_clock"]
    root = Path(__file__).parents[2]
    quick = ["--benchmark-enable", "--benchmark-max-time=0.01", "--benchmark-min-rounds=1"]
    for options, is_told in ((quick, True), ([], False)):
        done = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True)
        assert ("threads waiting by" in done.stdout) is is_told, done.stdout
