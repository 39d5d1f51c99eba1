"""What is known of one run, and what columns mean."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import record_factory as make
from typer.testing import CliRunner

from bench.cli.app import app
from bench.report.page.formats import spark
from bench.report.table.rows import DEFINITIONS


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with a model and its twin with SE, the former profiled."""
    make.write_run(tmp_path / "runs/plain", np.arange(200) < 120, spec=make.model("resnet50"))
    make.write_run(tmp_path / "runs/se", np.arange(200) < 190, spec=make.model("se_resnet50"))
    make.write_profile(tmp_path / "profiles/a", make.profile_record(make.model("resnet50")))
    return tmp_path


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_is_shown_with_accuracy_curve_cost_and_twin(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 % of 200 images, whoever lies beside it, and what was profiled of its model."""
    monkeypatch.chdir(runs)
    shown = told("show", "runs/plain")
    assert "top-1 60.00 (53.08–66.54) %" in shown
    assert "Loss: " in shown
    assert "Differs in attention alone: " in shown
    assert "img/s" in shown
    assert "Not profiled yet: senet-bench profile runs/se" in told("show", "runs/se")
    (runs / "runs" / "se").rename(runs / "runs" / "it's se")
    (line,) = [x for x in told("show", "runs/it's se").splitlines() if "Not profiled" in x]
    assert shlex.split(line)[-1] == "runs/it's se"


def test_jobs_that_ran_beside_a_training_are_told_with_its_seconds(tmp_path: Path) -> None:
    """Four others beside one of two seeds; a run that was alone says nothing."""
    for seed, shared in ((0, ()), (1, ("a", "b", "c", "d"))):
        make.write_run(tmp_path / f"{seed}", seed=seed, shared_with=shared)
    shown = told("show", str(tmp_path / "0"))
    assert "Not alone: the machine of 1 of 2 runs did other jobs too (a, b, c and 1 more)" in shown
    (tmp_path / "1" / "run.json").unlink()
    assert "Not alone" not in told("show", str(tmp_path / "0"))


def test_a_folder_without_a_run_is_refused_in_one_line(runs: Path) -> None:
    for name, why in (("nothing", "is not there"), ("profiles", "is no finished run")):
        result = CliRunner().invoke(app, ["show", str(runs / name), str(runs)])
        assert result.exit_code == 2
        assert why in result.output.replace("\n", " ")


def test_columns_are_told_as_a_table_as_json_and_as_the_file() -> None:
    assert "multiply-accumulates" in told("columns")
    assert json.loads(told("columns", "--json"))["results"] == DEFINITIONS
    file = Path(__file__).parents[3] / "bench/report/COLUMNS.md"
    assert told("columns", "--markdown") == file.read_text("utf-8")


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"
    assert spark([2.0, 2.0]) == "▁▁"
    assert len(spark([float(i) for i in range(1000)])) == 40
    assert spark([]) == ""
