"""A run from specification to record: complete, repeatable, resumable, refused in time."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import checkpoint, data, run
from bench.errors import UserError
from bench.evaluate import load_predictions, score
from bench.events import EpochDone, Event, RunDone, RunStarted, StepDone
from bench.folders import sha256
from bench.record import RunRecord
from bench.rescore import rescore_run
from bench.signals import Preempted
from bench.spec import DataSpec, ModelSpec, Recipe, RunSpec, validated

DATA = DataSpec(name="shapes", train_limit=100, test_limit=60)
RECIPE = Recipe(name="t", epochs=2, batch_size=32, lr=0.05, milestones=(1,), crop_padding=2)


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load(DATA)


def spec(model: str, dataset: data.Dataset, **changes: Any) -> RunSpec:
    base = {"model": run.identify(model, dataset, stem="cifar"), "data": DATA, "recipe": RECIPE}
    return validated(RunSpec, base | changes)


def train(
    spec: RunSpec, dataset: data.Dataset, out: Path, **options: Any
) -> tuple[RunRecord, list[Event]]:
    events: list[Event] = []
    record = run.train_run(spec, dataset, out, **{"emit": events.append, **options})
    return record, events


def test_a_run_leaves_its_record_weights_predictions_and_state(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, events = train(spec(tiny_model, dataset), dataset, tmp_path)
    folder = tmp_path / record.id
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "weights.safetensors", "predictions.npz"} < names
    assert len(checkpoint.checkpoints(folder)) == 1
    assert run.load_run(folder) == record
    assert record.weights is not None
    assert record.predictions is not None
    assert sha256(folder / "weights.safetensors") == record.weights.sha256
    assert sha256(folder / "predictions.npz") == record.predictions.sha256
    assert record.test == score(load_predictions(folder / "predictions.npz"), 10)
    assert isinstance(events[0], RunStarted)
    assert [e.facts.epoch for e in events if isinstance(e, EpochDone)] == [1, 2]
    assert sum(isinstance(e, StepDone) for e in events) == 8
    assert events[-1] == RunDone(record, str(folder), reused=False)


def test_a_record_says_what_it_was_and_where(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path, data_s=1.5)
    # conv 8·3·3·3, BatchNorm 2·8, linear 128·10 + 10
    assert (record.status, record.params, record.data_s) == ("finished", 1522, 1.5)
    assert record.dataset.digest == dataset.digest
    assert (record.dataset.num_train, record.dataset.num_test) == (100, 60)
    assert record.environment.packages["torch"] == torch.__version__.partition("+")[0]
    assert [e.num_images for e in record.epochs] == [100, 100]
    assert [e.lr for e in record.epochs] == pytest.approx([0.05, 0.005])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    first, _ = train(spec(tiny_model, dataset), dataset, tmp_path / "a")
    torch.manual_seed(1234)  # whatever the process did before must not matter
    again, _ = train(spec(tiny_model, dataset), dataset, tmp_path / "b")
    other, _ = train(spec(tiny_model, dataset, seed=1), dataset, tmp_path / "a")
    assert first.weights == again.weights
    assert first.predictions == again.predictions
    assert [e.loss for e in first.epochs] == [e.loss for e in again.epochs]
    assert other.weights != first.weights


def test_a_finished_run_is_not_trained_again(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    first, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    again, events = train(spec(tiny_model, dataset), dataset, tmp_path)
    assert again == first
    assert events == [RunDone(first, str(tmp_path / first.id), reused=True)]


def interrupted_at(step: int, spec: RunSpec, dataset: data.Dataset, out: Path) -> None:
    """Train until a signal arrives after so many steps of the first process."""
    seen = [0]

    def emit(event: Event) -> None:
        seen[0] += isinstance(event, StepDone)
        if seen[0] == step and isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match=r"SIGTERM: stopped in epoch \d, step \d of 4 and saved"):
        train(spec, dataset, out, emit=emit)


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_preempted_run_goes_on_as_if_nothing_had_happened(
    step: int, tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    whole, _ = train(chosen, dataset, tmp_path / "whole")
    interrupted_at(step, chosen, dataset, tmp_path / "pieces")
    record, events = train(chosen, dataset, tmp_path / "pieces", existing="resume")
    assert record.weights == whole.weights
    assert record.predictions == whole.predictions
    assert [e.loss for e in record.epochs] == [e.loss for e in whole.epochs]
    assert sum(isinstance(e, StepDone) for e in events) == 8 - step


def test_an_unfinished_run_is_neither_continued_nor_thrown_away_unasked(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(6, chosen, dataset, tmp_path)
    with pytest.raises(UserError, match="holds an unfinished run; give --resume or --restart"):
        train(chosen, dataset, tmp_path)
    _, events = train(chosen, dataset, tmp_path, existing="restart")
    assert sum(isinstance(e, StepDone) for e in events) == 8


def test_a_run_is_not_continued_on_other_images(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(2, chosen, dataset, tmp_path)
    flipped = data.Split(dataset.train.images.flip(3).contiguous(), dataset.train.labels)
    other = data.make_dataset("shapes", "shapes", flipped, dataset.test, dataset.classes)
    with pytest.raises(UserError, match="other images"):
        train(chosen, other, tmp_path, existing="resume")


def test_a_diverged_run_has_no_accuracy_and_no_weights(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    wild = RECIPE.changed(lr=1e30)
    record, _ = train(spec(tiny_model, dataset, recipe=wild), dataset, tmp_path)
    assert (record.status, record.test, record.weights) == ("diverged", None, None)
    assert record.reason is not None
    assert "loss" in record.reason
    assert not (tmp_path / record.id / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": RECIPE.changed(batch_size=101)}, "batch size 101 is larger than .* 100 images"),
        ({"precision": "tf32"}, "tf32 needs a CUDA GPU"),
        ({"runtime": "magic"}, "unknown training runtime 'magic'; choose from: eager"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_written(
    changes: dict[str, Any], message: str, tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(spec(tiny_model, dataset, **changes), dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_saved_weights_give_the_recorded_accuracy_to_the_last_image(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    assert record.test is not None
    found = rescore_run(
        tmp_path / record.id,
        device="cpu",
        precision=None,
        data_dir=None,
        test_limit=None,
        emit=lambda event: None,
    )
    assert found.accuracy == record.test
    assert (found.recorded_top1, found.same_images) == (record.test.top1, True)


def test_weights_that_were_exchanged_are_noticed(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    (tmp_path / record.id / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="SHA-256 differs"):
        rescore_run(
            tmp_path / record.id,
            device="cpu",
            precision=None,
            data_dir=None,
            test_limit=None,
            emit=lambda event: None,
        )


def test_a_models_identity_spells_out_the_se_blocks_defaults() -> None:
    assert run.identify("se_resnet50") == ModelSpec(name="se_resnet50", reduction=16, se_bias=True)
    assert run.identify("resnet50") == ModelSpec(name="resnet50")
    with pytest.raises(UserError, match="resnet50 has no SE block"):
        run.identify("resnet50", reduction=8)
    with pytest.raises(UserError, match="unknown model 'vgg16'; choose from: se_resnet18"):
        run.identify("vgg16")
    with pytest.raises(UserError, match="stem: should be 'cifar' or 'imagenet'"):
        run.identify("resnet50", stem="vgg")
