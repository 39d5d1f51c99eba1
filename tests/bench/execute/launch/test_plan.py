"""What an experiment would take, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import record_factory as make

from bench.execute import experiment as conduct
from bench.execute.launch.plan import makespan, plan
from bench.record.read_write import write_record
from bench.spec.experiment import parse_experiment

EXPERIMENT = """
name = "suite"
models = ["resnet18", "se_resnet18"]
stems = ["cifar"]
seeds = [0, 1, 2]
device = "cpu"

[data]
name = "cifar10"

[recipe]
base = "quick"
epochs = 2
"""


def test_the_longest_job_is_begun_first() -> None:
    """Two workers: 5 + 1 beside 3 + 2 + 1."""
    assert makespan([1, 2, 3, 5, 1], 2) == 6
    assert makespan([1, 2], 8) == 2
    assert makespan([], 8) == 0


def test_a_plan_is_the_measured_seconds_times_what_is_left(tmp_path: Path) -> None:
    """1,000 img/s: 50,000 images in 2 epochs are 100 s, by three seeds; the other is unknown."""
    experiment = parse_experiment(EXPERIMENT, "suite.toml")
    (plain, _) = conduct.models(experiment, None)
    like = conduct.run_spec(experiment, "cpu", plain, 9)
    made = make.run_record(recipe=like.recipe)
    epochs = tuple(e.model_copy(update={"throughput": 1000.0}) for e in made.epochs)
    changes = {"spec": like, "epochs": epochs, "data_s": 1.0, "build_s": 2.0, "eval_s": 3.0}
    record = made.model_copy(update={**changes, "id": like.folder_name(), "predictions": None})
    (tmp_path / "old" / record.id).mkdir(parents=True)
    write_record(tmp_path / "old" / record.id / "run.json", record)
    found = plan(experiment, tmp_path / "new", [tmp_path / "old"], "cpu", 2.0)
    assert (found.num_runs, found.num_left) == (6, 6)
    assert [name.split(",")[0].split()[0] for name in found.unknown] == ["se_resnet18"]
    assert found.machine_hours == pytest.approx(3 * 106 / 3600)
    assert found.hours == pytest.approx({1: 318 / 3600, 8: 106 / 3600, 100: 106 / 3600})
    assert found.price == pytest.approx(2 * 318 / 3600)
    nothing = plan(experiment, tmp_path / "new", [tmp_path / "none"], "cpu")
    assert len(nothing.unknown) == 2
    assert nothing.machine_hours == 0
