"""The commands as functions, and records as a DataFrame."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import record_factory as make

from bench.api import evaluate, load, profile, train
from bench.errors import UserError
from bench.record.read_write import read_record
from bench.report.table.rows import COLUMNS, DEFINITIONS
from bench.report.write import render
from senet.errors import ModelError

CODE = Path(__file__).parents[1] / "factories" / "user_model.py"


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


SMALL = {"train_limit": 80, "test_limit": 20}


def test_models_are_trained_profiled_and_evaluated_from_python(
    tiny_model: str, tmp_path: Path
) -> None:
    """What comes back are the records that lie in the folders, and the table joins them."""
    names = [tiny_model, f"py:{CODE}:make[width=4]"]
    runs = train(names, "shapes", recipe="quick", epochs=1, batch_size=16, out=tmp_path / "runs",
                 progress=False, seed=3, device="cpu", **SMALL)  # fmt: skip
    assert [run.spec.model.name for run in runs] == [tiny_model, f"py:{CODE}:make"]
    assert all(run.spec.seed == 3 and run.spec.recipe.epochs == 1 for run in runs)
    assert runs == [read_record(tmp_path / "runs" / run.id / "run.json") for run in runs]

    rows = profile(names, batch_sizes=(2,), memory=False, breakdown=False, progress=False,
                   timing={"max_s": 0.2, "min_blocks": 2}, out=tmp_path / "profiles")  # fmt: skip
    assert [row.model for row in rows] == [run.spec.model for run in runs]
    assert all(row.status == "ok" for row in rows)

    table = load(tmp_path / "runs", tmp_path / "profiles")
    assert len(table) == 2
    assert table["top1"].notna().all()
    assert table["latency_ms"].notna().all()

    for run in runs:
        found = evaluate(tmp_path / "runs" / run.id, progress=False, device="cpu")
        assert found.recorded_top1 == found.accuracy.top1
        assert found.same_images


def test_a_finished_run_is_returned_and_not_trained_again(tiny_model: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"recipe": "quick", "epochs": 1, "out": tmp_path, "progress": False}
    (first,) = train(tiny_model, "shapes", **how, **SMALL)
    (second,) = train(tiny_model, "shapes", **how, **SMALL)
    assert first == second


def test_weights_in_a_file_are_evaluated(tiny_model: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"recipe": "quick", "epochs": 1, "out": tmp_path, "progress": False}
    (run,) = train("resnet20", "shapes", **how, **SMALL)
    found = evaluate(
        tmp_path / run.id / "weights.safetensors", "shapes", test_limit=20, recipe="quick",
        progress=False,
    )  # fmt: skip
    assert run.test is not None
    assert (found.model, found.accuracy.top1) == ("resnet20", run.test.top1)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: train("resnet18", "shapes", epoch=3), "unknown option 'epoch'; choose from: "),
        (lambda: train([], "shapes"), "name at least one model"),
        (lambda: train("timm:resnet81", "shapes"), "did you mean resnet18"),
        (lambda: train("resnet18", "shapes", epochs=0), "epochs: should be greater than 0"),
        (lambda: profile("resnet18", batch_size=3), "unknown key 'batch_size'"),
        (lambda: profile("resnet18", runtimes=("x",)), "unknown runtime 'x'"),
        (lambda: evaluate("none.pt", "shapes"), "no such file|does not exist|none.pt"),
        (lambda: evaluate(".", "shapes"), "is a run's folder: dataset does not apply"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    call: Callable[[], object], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, ModelError), match=problem):
        call()
    assert list(tmp_path.iterdir()) == []
