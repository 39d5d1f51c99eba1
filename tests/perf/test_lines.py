"""What is printed of a benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.perf.conftest import line


def test_a_line_has_figures_and_what_was_wanted_of_them() -> None:
    found = {"runtime": "eager", "ratio": 2.0612, "s": {"a": [1.0, 20.5]}, "wanted": "ratio ≥ 2"}
    expected = "test_x: runtime eager; ratio 2.06; s a 1, 20.5 (wanted: ratio ≥ 2)"
    assert line("test_x", found) == expected
    assert line("test_y", {}) == "test_y: no figure (wanted: nothing)"


def test_benchmarks_end_with_a_line_each_and_the_machine(tmp_path: Path) -> None:
    """Benchmarks that are run as tests do not."""
    (tmp_path / "test_it.py").write_text(
        "def test_it(benchmark):\n"
        "    benchmark.extra_info.update(ratio=2.5, wanted='ratio ≥ 2')\n"
        "    benchmark.pedantic(len, ['x'])\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.perf.conftest"]
    for option, is_told in (("--benchmark-enable", True), ("--benchmark-disable", False)):
        done = subprocess.run(
            [*command, str(tmp_path), option],
            cwd=Path(__file__).parents[2],
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            capture_output=True,
            text=True,
        )
        assert ("test_it: ratio 2.5 (wanted: ratio ≥ 2)" in done.stdout) is is_told, done.stdout
        assert ("threads waiting by" in done.stdout) is is_told, done.stdout
