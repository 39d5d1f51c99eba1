"""Time to accuracy: medians over seeds, misses censored and never dropped."""

import json

import pytest
import record_factory as make

from bench.report.derive.findings import findings
from bench.report.derive.speed.axes import cost_axes
from bench.report.derive.time_to import races
from bench.report.page.contents import contents
from bench.report.page.markdown import render
from bench.report.read.load import load
from bench.report.read.study import study
from bench.stats.times import kaplan_meier_median


@pytest.mark.parametrize(
    ("reached", "missed", "expected"),
    [
        ([3.0, 1.0, 2.0], [], 2.0),
        ([1.0], [9.0], 1.0),
        ([1.0], [9.0, 9.0], None),
        ([1.0, 4.0], [2.0], 4.0),
        ([2.0, 2.0], [2.0, 5.0], 2.0),
        ([], [5.0], None),
    ],
)
def test_median_known_answers(reached, missed, expected):
    """A miss counts as waiting until it was given up: (1, 2+, 4) has its median at 4, not at 1."""
    assert kaplan_meier_median(reached, missed) == expected


def write(folder, name, seed, top1, key="top1", seconds=10.0, **changes):
    """Write a run with these accuracies after each epoch of ``seconds``."""
    path = make.write_run(folder / f"{name}-{seed}", spec=make.model(name), seed=seed)
    record = json.loads(path.read_text())
    epochs = [
        record["epochs"][0] | {"epoch": n, "epoch_wall_s": seconds} | {key: value}
        for n, value in enumerate(top1, 1)
    ]
    make.damage(path, epochs=epochs, **changes)


def read(folder):
    return findings(study(load([folder])))


def told(folder):
    """Return the lines of the report's table of times."""
    text = render(contents(read(folder)))
    part = text.partition("## Time to accuracy")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("|")]


def test_misses_are_censored_and_counted(tmp_path):
    """A dip does not take back what was reached; one of three seeds never gets to 50 %."""
    write(tmp_path, "resnet50", 0, [0.2, 0.41, 0.3])
    write(tmp_path, "resnet50", 1, [0.2, 0.30, 0.44])
    write(tmp_path, "resnet50", 2, [0.2, 0.30, 0.43])
    write(tmp_path, "se_resnet50", 0, [0.3, 0.52, 0.6], seconds=12.0)
    write(tmp_path, "se_resnet50", 1, [0.3, 0.50, 0.6], seconds=12.0)
    write(tmp_path, "se_resnet50", 2, [0.3, 0.40, 0.4], seconds=12.0)
    assert told(tmp_path) == [
        "| model | seeds | s to 40 % | s to 50 % | s to 60 % |",
        "| --- | --- | --- | --- | --- |",
        "| resnet50 | 3 | 30 (20–30) | \\> 30 (0 of 3) | \\> 30 (0 of 3) |",
        "| se_resnet50 | 3 | 24 | 24 (2 of 3) | 36 (2 of 3) |",
    ]


def test_held_out_images_are_used_where_every_run_has_them(tmp_path):
    """The accuracy on held-out images, not the higher one on training images, is raced."""
    for name in ("resnet50", "se_resnet50"):
        spec = json.loads(make.write_run(tmp_path / "x", spec=make.model(name)).read_text())["spec"]
        write(tmp_path, name, 0, [0.1, 0.32, 0.32], "val_top1", spec=spec | {"val_split": 0.1})
    (tmp_path / "x" / "run.json").unlink()
    (race,) = read(tmp_path).races
    assert race.held_out
    assert race.targets == (0.30,)
    assert race.reach(race.cells[0], 0.3).median_s == 20.0


def test_only_equal_devices_are_raced(tmp_path):
    """Seconds of a GPU and of a CPU do not stand in one table."""
    fast = make.environment(device="cuda", device_name="Example GPU")
    make.write_run(tmp_path / "a", spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", spec=make.model("se_resnet50"), env=fast)
    found = races(study(load([tmp_path])))
    assert {race.device for race in found} == {"CPU", "Example GPU"}
    assert len(found) == 2


@pytest.mark.parametrize("change", [{"flags": {"flush_denormal": "False"}}, {"dirty": True}])
def test_only_trainings_under_equal_conditions_are_raced(tmp_path, change):
    """Other flags, or changes that no commit holds: two races of one, two axes of cost."""
    write(tmp_path, "resnet50", 0, [0.5, 0.7, 0.8])
    write(tmp_path, "se_resnet50", 0, [0.5, 0.7, 0.8])
    assert [len(race.cells) for race in races(study(load([tmp_path])))] == [2]
    env = make.environment(**change).model_dump(mode="json")
    write(tmp_path, "se_resnet50", 0, [0.5, 0.7, 0.8], environment=env)
    found = study(load([tmp_path]))
    assert [len(race.cells) for race in races(found)] == [1, 1]
    (axis,) = (a for a in cost_axes(found, found.cells) if a.name == "training-time")
    assert len(axis.values) == 1


def test_no_race_is_run_to_a_target_at_chance(tmp_path):
    """Ten classes: who asks for 12 % gets no threshold there, who asks for 60 % does."""
    for name, target in (("resnet50", 0.12), ("se_resnet50", 0.6)):
        write(tmp_path, name, 0, [0.5, 0.7, 0.8], key="val_top1")
        path = tmp_path / f"{name}-0" / "run.json"
        spec = json.loads(path.read_text())["spec"]
        make.damage(path, spec=spec | {"target_top1": target, "val_split": 0.1})
    targets = [t for race in races(study(load([tmp_path]))) for t in race.targets]
    assert 0.6 in targets
    assert min(targets) > 0.12
