"""Records as a DataFrame."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import record_factory as make

from bench.api import load
from bench.errors import UserError
from bench.report.table.rows import COLUMNS, DEFINITIONS
from bench.report.write import render


def test_the_frame_has_the_rows_and_the_columns_of_the_csv(tmp_path: Path) -> None:
    """Who works in pandas gets the same table as who reads the file."""
    make.write_example(tmp_path / "records", num_test=100)
    table = load(tmp_path / "records")
    render([tmp_path / "records"], tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(table.columns) == list(rows[0]) == list(DEFINITIONS)
    assert table["profile_ids"].to_list() == [row["profile_ids"] for row in rows]
    assert table["latency_ms"].to_list() == pytest.approx(
        [float(row["latency_ms"]) for row in rows]
    )
    assert str(table["macs"].dtype) == "Int64"


def test_a_price_is_told_in_money(tmp_path: Path) -> None:
    """3.6 an hour at n img/s are 1,000 / n a million images."""
    make.write_example(tmp_path, num_test=100)
    table = load(str(tmp_path), price_per_hour=3.6)
    assert table["price_per_million"].to_list() == pytest.approx(1000 / table["throughput"])
    assert load(tmp_path)["price_per_million"].isna().all()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable records"):
        load(tmp_path)


def test_each_quantity_has_one_column() -> None:
    """Two columns of one name would hide one of them."""
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert all(c.of_model or c.of_training or c.of_profile for c in COLUMNS)
