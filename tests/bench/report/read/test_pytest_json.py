"""Files of pytest-benchmark: what decides nothing, what is no such file, what stands twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.report.read.pytest_json import is_benchmark_file, read_benchmarks

STATS = {"median": 0.01, "iqr": 0.0001, "rounds": 20}


def written(path: Path, *entries: dict[str, Any], **facts: Any) -> Path:
    path.write_text(json.dumps({"benchmarks": list(entries)} | facts), encoding="utf-8")
    return path


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_few_rounds_without_their_times_have_no_bounds(tmp_path: Path, rounds: int) -> None:
    """One round has a spread of 0, which says nothing about the next."""
    stats = STATS | {"rounds": rounds, "iqr": 0.0}
    path = written(tmp_path / "a.json", {"fullname": "test_a", "stats": stats})
    (benchmark,) = read_benchmarks(path)
    assert (benchmark.seconds.low, benchmark.seconds.high) == (0.0, math.inf)


def test_many_rounds_have_the_interval_of_their_median(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"fullname": "test_a", "stats": STATS})
    (benchmark,) = read_benchmarks(path)
    half = 1.82 * 0.0001 / math.sqrt(20)
    assert benchmark.seconds.high - 0.01 == pytest.approx(half)


def test_a_name_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    entry = {"fullname": "test_a", "stats": STATS}
    with pytest.raises(UserError, match="holds test_a 2 times"):
        read_benchmarks(written(tmp_path / "a.json", entry, entry))


def test_a_file_of_google_benchmark_is_called_so(tmp_path: Path) -> None:
    entry = {"name": "BM_copy", "real_time": 5.0, "time_unit": "ns"}
    path = written(tmp_path / "a.json", entry, context={"host_name": "x"})
    with pytest.raises(UserError, match="is from google-benchmark"):
        read_benchmarks(path)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        5,
        {"fullname": "a"},
        {"fullname": "a", "stats": None},
        {"fullname": "a", "stats": []},
        {"fullname": "a", "stats": STATS | {"rounds": -1}},
        {"fullname": "a", "stats": STATS | {"rounds": 1e400}},
        {"fullname": "a", "stats": STATS | {"median": -0.1}},
        {"fullname": "a", "stats": STATS | {"data": "x"}},
        {"fullname": "a", "stats": STATS | {"iqr": -1}},
        {"fullname": "a", "stats": STATS | {"iqr": math.nan}},
        {"fullname": "a", "stats": STATS | {"data": [1, math.nan, 1, 1, 1, 1, 1]}},
        {"fullname": "a", "stats": STATS | {"data": [-1, 2, 3, 4, 5, 6, 7]}},
    ],
)
def test_what_is_no_benchmark_names_the_file(tmp_path: Path, entry: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"benchmarks": [entry]}), encoding="utf-8-sig")
    assert is_benchmark_file(path)
    with pytest.raises(UserError, match=r"a\.json is no file of pytest-benchmark"):
        read_benchmarks(path)


def test_two_values_of_one_key_are_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"fullname": "test_a", "stats": STATS})
    path.write_text(path.read_text().replace('"rounds"', '"median": 5.0, "rounds"'))
    with pytest.raises(UserError, match="'median' stands twice"):
        read_benchmarks(path)


def test_google_s_entries_are_known_without_their_context(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"name": "BM_copy", "real_time": 5.0, "time_unit": "ns"})
    with pytest.raises(UserError, match="is from google-benchmark"):
        read_benchmarks(path)
