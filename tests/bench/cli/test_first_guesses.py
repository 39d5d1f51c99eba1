"""What people type first does the natural thing, or says in one line what would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import senet
from bench.cli.app import app
from bench.cli.profile import _named
from bench.cli.screens.pace import Count
from bench.cli.screens.plan import forecast, in_a_line
from bench.compute.model import build
from bench.errors import UserError
from bench.execute.launch.plan import Plan
from bench.execute.resolve import Question
from bench.execute.subjects import Shape, by_name
from bench.record.read_write import read_record
from bench.record.run import RunRecord
from bench.spec.experiment import Experiment, load_or_compare

COMPARED = "no model named: se_resnet50, resnet50, resnet101"
TINY = ("--dataset", "shapes", "--recipe", "quick", "--epochs", "1", "--batch-size", "10")
FEW = ("--train-limit", "20", "--test-limit", "20")


def said(*arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_train_and_profile_without_a_name_take_the_models_of_the_comparison(tmp_path: Path) -> None:
    """They say which, and what a smaller start would be, before anything can go wrong."""
    missing = str(tmp_path / "photos")
    out = said("train", "--dataset", "folder", "--data-dir", missing, code=2)
    assert COMPARED in out
    assert "senet-bench train resnet18 --dataset shapes" in out
    out = said("profile", "--batch-size", "0", "--no-memory", code=2)
    assert f"{COMPARED} with fresh weights" in out


def test_report_without_records_names_the_command_that_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = said("report", code=2)
    assert "senet-bench train resnet18 --dataset shapes --recipe quick" in out
    assert out.count("\n") == 1


def test_several_seeds_are_several_runs(tmp_path: Path) -> None:
    said("train", "resnet18", *TINY, *FEW, "--seeds", "0,3", "--out", str(tmp_path), code=0)
    records = [read_record(path) for path in tmp_path.glob("*/run.json")]
    assert sorted(r.spec.seed for r in records if isinstance(r, RunRecord)) == [0, 3]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--seed", "1", "--seeds", "2"), "--seed and --seeds both name seeds"),
        (("--epochs", "1", "--set", "epochs=2"), "--epochs 1 and --set epochs=2 contradict"),
    ],
)
def test_what_contradicts_is_refused(arguments: tuple[str, ...], problem: str) -> None:
    assert problem in said("train", "resnet18", "--dataset", "shapes", *arguments, code=2)


def test_models_are_a_comparison() -> None:
    """Two models and a data set, as one would type them; a preset among them is refused."""
    found = load_or_compare(["se_resnet18", "resnet18"], "folder").changed(seeds=(0, 1))
    assert found.name == "se_resnet18-resnet18"
    assert [entry.name for entry in found.models] == ["se_resnet18", "resnet18"]
    assert (found.data.name, found.recipe.name) == ("folder", "standard")
    assert load_or_compare(["quickstart"]).name == "quickstart"
    with pytest.raises(UserError, match="quickstart is a comparison of its own"):
        load_or_compare(["resnet18", "quickstart"])
    told = in_a_line(found, 4, Path("reports/x"), None)
    assert "4 trainings of 100 epochs (2 models × 2 seeds), then 2 profiled in one sitting" in told
    assert found.profile is not None
    five = found.changed(profile=found.profile.model_copy(update={"repeat": 5}))
    assert "profiled in 5 sittings" in in_a_line(five, 4, Path("reports/x"), None)


def test_a_comparison_begins_with_a_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what was measured here; two batch sizes of two models, and single calls, are six rows."""
    monkeypatch.chdir(tmp_path)
    found = load_or_compare(["se_resnet18", "resnet18"], "shapes").changed(device="cpu")
    sitting = "then 6 rows of the sitting, timed for at most 38 s"
    unknown = forecast(found, Path("runs/x"), None)
    assert "each training tells after its first steps; not measured yet: resnet18" in unknown
    assert unknown.endswith(f"and 1 more; {sitting}")
    known = Plan(2, 2, (), machine_hours=0.5, hours={})
    monkeypatch.setattr("bench.execute.launch.plan.plan", lambda *_: known)
    told = "30:00 min for the 2 trainings left, by those measured here"
    assert forecast(found, Path("runs/x"), None) == f"forecast: {told}; {sitting}"
    monkeypatch.setattr("bench.execute.launch.plan.plan", lambda *_: replace(known, num_left=0))
    assert "all trainings are there already" in forecast(found, Path("runs/x"), None)


def test_what_seeds_on_demand_may_take_is_told_from_the_first_look_to_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour a training: two models by 3 seeds, or by 8 of which the given are three."""
    monkeypatch.chdir(tmp_path)
    seeds: list[tuple[int, ...]] = []

    def half_an_hour_each(experiment: Experiment, *_: object) -> Plan:
        seeds.append(experiment.seeds)
        runs = 2 * len(experiment.seeds)
        return Plan(
            runs, runs, (), machine_hours=runs / 2, hours={1: runs / 2, 100: 0.5}, price=runs
        )

    monkeypatch.setattr("bench.execute.launch.plan.plan", half_an_hour_each)
    models = ("run", "se_resnet18", "resnet18", "--dataset", "shapes", "--seeds", "0,4,1")
    asked = ("--resolve", "1", "--max-seeds", "8", "--price-per-hour", "2")
    told = said(*models, "--plan", *asked, code=0)
    assert seeds == [(0, 4, 1), (0, 4, 1, 2, 3, 5, 6, 7)]
    assert "6 to 16 of 16 trainings are left" in told
    assert "3.00 to 8.00 machine-hours" in told
    assert "3.00 to 8.00 h on 1 machine" in told
    assert "0.50 h on 100 machines" in told
    assert "6.00 to 16.00 at 2 an hour" in told
    found = load_or_compare(["se_resnet18", "resnet18"], "shapes").changed(device="cpu")
    line = forecast(found, Path("runs/x"), Question(0.01, 8))
    assert "3:00 h to 8:00 h for the 6 to 16 trainings left" in line


def test_a_plan_is_for_the_device_of_other_machines_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine has no GPU; auto is its CPU, which is told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    command = ("run", "resnet18", "se_resnet18", "--dataset", "shapes", "--plan", "--device")
    for asked, told in (("cuda", "cuda"), ("auto", "cpu"), ("cuda:1", "cuda:1")):
        lines = said(*command, asked, code=0)
        assert f"trainings are left, on {told}\nnot measured on {told}, in no" in lines
    assert "unknown device 'gpu'" in said(*command, "gpu", code=2)


def test_a_folder_of_a_run_can_be_profiled_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert _named(None, [str(tmp_path)], None) == (tmp_path, None)
    assert _named(None, ["resnet18"], None) == (None, ["resnet18"])


def test_a_weights_file_of_this_project_names_its_own_model(tmp_path: Path) -> None:
    """Its classes, stem and attention too; a file that says nothing has to be told apart."""
    own, foreign = str(tmp_path / "own.safetensors"), str(tmp_path / "foreign.pt")
    model = senet.build("eca_resnet20", stem="cifar", num_classes=7)
    senet.save_weights(model, own)
    torch.save(model.state_dict(), foreign)
    assert _named(None, None, own) == (None, None)
    shape = Shape("shapes", None, "fine", None, None)
    built = {"stem": None, "attention": {}}
    found = by_name(None, own, built, shape, None)
    (spec,) = found.models
    assert (spec.name, spec.stem, spec.num_classes) == ("eca_resnet20", "cifar", 7)
    assert found.weights == {spec: own}
    build(spec, weights=own)
    with pytest.raises(UserError, match="does not say which model it is for: name it"):
        by_name(None, foreign, built, shape, None)
    with pytest.raises(UserError, match="--stem imagenet does not fit it"):
        by_name(None, own, built | {"stem": "imagenet"}, shape, None)


def test_trainings_are_counted_where_there_are_several() -> None:
    count = Count(2)
    assert (count(), count.end(), count()) == ("[1/2] ", "[1/2] ", "[2/2] ")
    assert Count(1)() == Count(None)() == ""
