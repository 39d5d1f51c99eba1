"""Loading: every record is used once, and whatever is not used is named with its reason."""

import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
import record_factory as make

from bench.errors import UserError
from bench.record.read_write import to_json
from bench.report.read.load import load


def reasons(loaded):
    return {aside.path.rsplit("/", 1)[-1]: aside.reason for aside in loaded.set_aside}


def test_runs_and_profiles_are_found_at_any_depth(tmp_path):
    """Records below the folder are read, with their predictions."""
    make.write_run(tmp_path / "a" / "b", np.ones(100, bool))
    make.write_profile(tmp_path / "c", make.profile_record())
    loaded = load([tmp_path])
    assert (len(loaded.runs), len(loaded.profiles), loaded.set_aside) == (1, 1, ())
    assert loaded.runs[0].predictions.correct.all()


def test_damaged_and_foreign_files_are_named_and_the_rest_is_kept(tmp_path):
    """Truncated, empty, foreign, newer and NaN records are set aside one by one."""
    good = make.write_run(tmp_path / "good")
    text = good.read_text()
    bad = {
        "truncated.json": text[: len(text) // 2],
        "empty.json": "",
        "foreign.json": '{"hello": "world"}',
        "list.json": "[1, 2]",
        "nan.json": text.replace('"data_s": 1.0', '"data_s": NaN'),
        "newer.json": text.replace('"schema_version": 2', '"schema_version": 3'),
        "wrong.json": text.replace('"params": 23520842', '"params": "many"'),
        "deep.json": "[" * 100_000,
    }
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    found = reasons(loaded)
    assert set(found) == {*bad, "binary.json"}
    assert "schema version 3" in found["newer.json"]
    assert "NaN" in found["nan.json"]
    assert "params" in found["wrong.json"]
    assert all("\n" not in reason for reason in found.values())


def test_a_pipe_among_the_records_is_named_and_not_waited_for(tmp_path):
    """Whoever opened it would wait until somebody writes to it."""
    make.write_run(tmp_path / "a", np.ones(100, bool))
    (tmp_path / "a" / "predictions.npz").unlink()
    for name in ("a/predictions.npz", "pipe.json", "failure-1.json"):
        os.mkfifo(tmp_path / name)
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    found = reasons(loaded)
    assert set(found) == {"predictions.npz", "pipe.json", "failure-1.json"}
    assert all(reason.startswith("no regular file") for reason in found.values())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"test": {"top1_correct": 2000}}, "2000 right at first"),
        ({"test": {"num_images": 0}}, "of 0 test images"),
        ({"test": {"top1": 0.99}}, "top1 0.99 is not 800 of 1000"),
        ({"test": None}, "finished without a test accuracy"),
        ({"params": 0}, "params is 0"),
        ({"test": {"loss": -1.0}}, "loss is -1"),
        ({"dataset": {"num_test": 1001}}, "tested on 1000 of 1001 test images"),
        ({"epochs": []}, "its epochs are numbered by nothing of 3"),
    ],
)
def test_a_run_that_contradicts_itself_is_set_aside(tmp_path, changes, why):
    """Well-formed JSON with impossible numbers is named, not averaged."""
    make.write_run(tmp_path / "good")
    path = make.write_run(tmp_path / "bad", seed=1)
    record = json.loads(path.read_text())
    for key, value in changes.items():
        record[key] = record[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(record))
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    assert why in reasons(loaded)["run.json"]


def test_a_profile_that_contradicts_itself_is_set_aside(tmp_path):
    """A block without a call, FLOPs that are not twice the MACs, or no timing at all."""
    timing = make.profile_record().timing
    spoilt = {
        "a": {"timing": timing.model_copy(update={"block_iters": (0,) * 20})},
        "b": {"timing": timing.model_copy(update={"block_s": timing.block_s[:-1]})},
        "c": {"cost": make.profile_record().cost.model_copy(update={"flops": 1})},
        "d": {"timing": None},
        "e": {"batch_size": 0},
    }
    make.write_run(tmp_path / "good")
    for name, changes in spoilt.items():
        make.write_profile(
            tmp_path, make.profile_record().model_copy(update={"id": name} | changes)
        )
    loaded = load([tmp_path])
    assert loaded.profiles == ()
    assert all(r.startswith("contradicts itself: ") for r in reasons(loaded).values())
    assert len(loaded.set_aside) == 5


def test_a_diverged_run_never_counts(tmp_path):
    """Its reason is shown and it is not among the runs."""
    make.write_run(tmp_path / "good")
    path = make.write_run(tmp_path / "bad", seed=1)
    make.damage(path, status="diverged", reason="loss became NaN in epoch 2", test=None)
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    assert reasons(loaded)["run.json"] == "diverged: loss became NaN in epoch 2"


def test_a_copied_run_counts_once(tmp_path):
    """The same record in two folders is one run."""
    make.write_run(tmp_path / "a")
    make.write_run(tmp_path / "b")
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    assert loaded.set_aside[0].reason.startswith("a duplicate of")


def test_a_repeated_seed_is_not_a_second_seed(tmp_path):
    """Of two runs with one specification and seed the newest counts."""
    make.write_run(tmp_path / "old", id="one", correct=700)
    make.write_run(tmp_path / "new", id="two", correct=750, created_at="2026-02-01T00:00:00Z")
    loaded = load([tmp_path])
    assert [run.record.id for run in loaded.runs] == ["two"]
    assert "older than" in loaded.set_aside[0].reason


def test_the_same_folder_named_twice_counts_once(tmp_path):
    """Overlapping folders give each file once."""
    make.write_run(tmp_path / "a")
    assert len(load([tmp_path, tmp_path]).runs) == 1
    assert load([tmp_path, tmp_path]).set_aside == ()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:50]), "SHA-256"),
        (lambda p: p.unlink(), "No such file"),
    ],
)
def test_spoilt_predictions_are_set_aside_and_the_accuracy_stays(tmp_path, spoil, why):
    """A flipped or missing file costs the paired tests, not the run."""
    make.write_run(tmp_path / "a", np.ones(100, bool))
    spoil(tmp_path / "a" / "predictions.npz")
    loaded = load([tmp_path])
    assert loaded.runs[0].predictions is None
    assert why in reasons(loaded)["predictions.npz"]


def resealed(folder, arrays):
    """Replace a run's predictions and make its record name the new file."""
    content = make.npz(arrays)
    (folder / "predictions.npz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    make.damage(folder / "run.json", predictions={"name": "predictions.npz", "sha256": digest})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a | {"confidence": a["confidence"] * np.nan}, "not finite"),
        (lambda a: a | {"top5": a["top5"] + 90}, "classes outside"),
        (lambda a: a | {"labels": a["labels"][:-1]}, "differ in length"),
        (lambda a: a | {"labels": a["labels"] * 1.5}, "whole numbers"),
        (lambda a: {"labels": a["labels"]}, "no predictions"),
        (lambda a: a | {"nll": np.array([{}], dtype=object)}, "pickle"),
    ],
)
def test_predictions_that_contradict_their_record_are_set_aside(tmp_path, change, why):
    """Arrays that do not fit are named, and nothing is unpickled."""
    hits = np.arange(100) < 80
    make.write_run(tmp_path / "a", hits)
    resealed(tmp_path / "a", change(make.predictions(hits)))
    loaded = load([tmp_path])
    assert loaded.runs[0].predictions is None
    assert why in reasons(loaded)["predictions.npz"]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a | {"labels": (a["labels"] + 1) % 10},
        lambda a: a | {"top5": np.roll(a["top5"], 1, axis=0)},
        lambda a: a | {"top5": np.where(a["top5"] == a["labels"][:, None], 9, a["top5"])},
        lambda a: {name: array[:-10] for name, array in a.items()},
        lambda a: {name: np.concatenate([array, array]) for name, array in a.items()},
    ],
)
def test_a_record_that_its_own_predictions_belie_is_not_shown(tmp_path, change):
    """Not only its paired tests are in doubt but its accuracy."""
    hits = np.arange(100) % 5 < 4
    make.write_run(tmp_path / "a", hits)
    make.write_run(tmp_path / "b", hits, spec=make.model("resnet34"))
    resealed(tmp_path / "a", change(make.predictions(hits)))
    loaded = load([tmp_path])
    assert [run.record.spec.model.name for run in loaded.runs] == ["resnet34"]
    assert "contradicts itself: its predictions have" in reasons(loaded)["run.json"]


def test_accuracy_that_was_raised_by_hand_is_not_shown(tmp_path):
    """Top-1 and the counts agree with each other, and not with the hashed predictions."""
    hits = np.arange(100) < 80
    make.write_run(tmp_path / "a", hits)
    make.write_run(tmp_path / "b", hits, spec=make.model("resnet34"))
    path = tmp_path / "a" / "run.json"
    test = json.loads(path.read_text())["test"]
    for raised in ({"top1_correct": 90, "top1": 0.9, "top5_correct": 100}, {"top5_correct": 99}):
        make.damage(path, test=test | raised | {"top5": (test | raised)["top5_correct"] / 100})
        assert len(load([tmp_path]).runs) == 1


@pytest.mark.parametrize("name", ["../secret.npz", "/tmp/x", "a/b.npz", "..", "", "c:x", "a\\b"])
def test_a_record_cannot_name_a_file_elsewhere(tmp_path, name):
    make.write_run(tmp_path / "a", np.ones(10, bool))
    make.write_run(tmp_path / "b", np.ones(10, bool), spec=make.model("resnet34"))
    path = tmp_path / "a" / "run.json"
    digest = json.loads(path.read_text())["predictions"]["sha256"]
    make.damage(path, predictions={"name": name, "sha256": digest})
    loaded = load([tmp_path])
    assert [run.record.spec.model.name for run in loaded.runs] == ["resnet34"]
    assert "is not the name of a file in the record's folder" in reasons(loaded)["run.json"]


def test_predictions_that_would_fill_the_memory_are_not_unpacked(tmp_path):
    """A megabyte that unpacks to a gigabyte: what the file says of itself is read first."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("labels.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(1024):
            member.write(bytes(2**20))
    hits = np.ones(10, bool)
    make.write_run(tmp_path / "a", hits)
    (tmp_path / "a" / "predictions.npz").write_bytes(content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    sealed = {"name": "predictions.npz", "sha256": digest}
    make.damage(tmp_path / "a" / "run.json", predictions=sealed)
    assert "would unpack to 1.0 GiB" in reasons(load([tmp_path]))["predictions.npz"]


@pytest.mark.parametrize(
    "changes",
    [
        {"params": -1},
        {"macs": -1},
        {"data_s": -3.0},
        {"eval_s": 1e308},
        {"val_s": 10**60},
        {"params": 10**400},
    ],
)
def test_impossible_numbers_set_a_run_aside(tmp_path, changes):
    make.write_run(tmp_path / "a", np.ones(10, bool))
    make.write_run(tmp_path / "b", np.ones(10, bool), spec=make.model("resnet34"))
    make.damage(tmp_path / "a" / "run.json", **changes)
    loaded = load([tmp_path])
    assert [run.record.spec.model.name for run in loaded.runs] == ["resnet34"]
    assert "contradicts itself" in reasons(loaded)["run.json"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda epochs: epochs * 3,
        lambda epochs: epochs[::-1],
        lambda epochs: epochs[:-1],
        lambda epochs: [epochs[0] | {"loss": -0.5}, *epochs[1:]],
        lambda epochs: [epochs[0] | {"epoch": 10**6}],
        lambda epochs: [epochs[0] | {"epoch_wall_s": 1e-300}],
        lambda epochs: [epochs[0] | {"loss": 1e308}],
        lambda epochs: [epochs[0] | {"num_images": -5}],
    ],
)
def test_impossible_epochs_set_a_run_aside(tmp_path, spoil):
    make.write_run(tmp_path / "a", np.ones(10, bool))
    make.write_run(tmp_path / "b", np.ones(10, bool), spec=make.model("resnet34"))
    path = tmp_path / "a" / "run.json"
    epochs = json.loads(path.read_text())["epochs"]
    assert len(epochs) > 1
    make.damage(path, epochs=spoil(epochs))
    loaded = load([tmp_path])
    assert [run.record.spec.model.name for run in loaded.runs] == ["resnet34"]
    assert "contradicts itself" in reasons(loaded)["run.json"]


def test_no_records_says_where_it_looked(tmp_path):
    """An empty folder is an error that names it; a missing one too."""
    with pytest.raises(UserError, match=f"no usable records in {tmp_path}"):
        load([tmp_path])
    with pytest.raises(UserError, match="nowhere is not there"):
        load([tmp_path / "nowhere"])


def test_only_broken_records_names_the_first(tmp_path):
    """When nothing is usable, the error says why for the first file."""
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"1 set aside, the first: .*x\.json: not strict JSON"):
        load([tmp_path])


def test_a_recipe_of_more_epochs_than_memory_holds_is_set_aside(tmp_path):
    """The epochs that are there are counted, not those that the recipe claims."""
    record = make.run_record()
    recipe = record.spec.recipe.model_copy(update={"epochs": 10**18})
    claimed = record.model_copy(update={"spec": record.spec.model_copy(update={"recipe": recipe})})
    make.write_run(tmp_path / "run").write_text(to_json(claimed))
    with pytest.raises(UserError, match="its epochs are numbered 1, 2, 3 of 1000000000000000000"):
        load([tmp_path])
