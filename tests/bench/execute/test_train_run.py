"""A run from specification to record: complete, repeatable, resumable, refused in time."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import senet
from bench import data
from bench.compute import distributed
from bench.compute.model import identify
from bench.errors import UserError
from bench.events import EpochDone, Event, RunDone, RunStarted, StepDone
from bench.execute import checks, run_folder, train_run
from bench.execute.evaluate_weights import Rescored, rescore_run
from bench.machine import generators, heap
from bench.record.files import sha256
from bench.record.run import RunRecord, RuntimeTrial
from bench.signals import Preempted
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.spec.values import validated
from bench.train import checkpoint, choose_runtime, saver
from bench.train.evaluate import load_predictions, score
from tests.conftest import build_tiny

DATA = DataSpec(name="shapes", train_limit=100, test_limit=60)
RECIPE = Recipe(name="t", epochs=2, batch_size=32, lr=0.05, milestones=(1,), crop_padding=2)


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load(DATA)


def spec(model: str, dataset: data.Dataset, **changes: Any) -> RunSpec:
    base = {"model": identify(model, dataset, stem="cifar"), "data": DATA, "recipe": RECIPE}
    return validated(RunSpec, base | changes)


def train(
    spec: RunSpec, dataset: data.Dataset, out: Path, **options: Any
) -> tuple[RunRecord, list[Event]]:
    events: list[Event] = []
    record = train_run.train_run(spec, dataset, out, **{"emit": events.append, **options})
    return record, events


def rescored(folder: Path) -> Rescored:
    return rescore_run(
        folder,
        device="cpu",
        precision=None,
        data_dir=None,
        test_limit=None,
        emit=lambda event: None,
    )


def test_a_run_leaves_its_record_weights_predictions_and_state(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, events = train(spec(tiny_model, dataset), dataset, tmp_path)
    folder = tmp_path / record.id
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "weights.safetensors", "predictions.npz"} < names
    assert len(checkpoint.checkpoints(folder)) == 1
    assert run_folder.load_run(folder) == record
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
    assert record.macs == 32 * 32 * 8 * 27 + 128 * 10
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


def interrupted_at(step: int, spec: RunSpec, dataset: data.Dataset, out: Path, **how: Any) -> None:
    """Train until a signal arrives after so many steps of the first process."""
    seen = [0]

    def emit(event: Event) -> None:
        seen[0] += isinstance(event, StepDone)
        if seen[0] == step and isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(
        Preempted, match=r"SIGTERM: stopped in epoch \d, step \d of 4(,| and) saved"
    ):
        train(spec, dataset, out, emit=emit, **how)


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_preempted_run_goes_on_as_if_nothing_had_happened(
    step: int, tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    whole, _ = train(chosen, dataset, tmp_path / "whole")
    interrupted_at(step, chosen, dataset, tmp_path / "pieces")
    record, events = train(chosen, dataset, tmp_path / "pieces", if_unfinished="resume")
    assert record.weights == whole.weights
    assert record.predictions == whole.predictions
    assert [e.loss for e in record.epochs] == [e.loss for e in whole.epochs]
    assert sum(isinstance(e, StepDone) for e in events) == 8 - step
    assert not record.warnings


def test_a_run_that_goes_on_elsewhere_says_so(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release of torch rounds in another order: its bits are not those of one run."""
    chosen, here = spec(tiny_model, dataset), train_run.collect("cpu")
    interrupted_at(3, chosen, dataset, tmp_path)
    elsewhere = here.model_copy(update={"packages": here.packages | {"torch": "1.0"}})
    monkeypatch.setattr(train_run, "collect", lambda device: elsewhere)
    interrupted_at(2, chosen, dataset, tmp_path, if_unfinished="resume")
    record, _ = train(chosen, dataset, tmp_path, if_unfinished="resume")
    (warning,) = record.warnings
    assert warning == (
        f"continued under other conditions: torch 1.0, before {here.packages['torch']}"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("step", [1, 6])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_a_deterministic_run_goes_on_to_the_bit(
    precision: str, step: int, dataset: data.Dataset, tmp_path: Path
) -> None:
    """Weights, scaler, order and predictions of a ResNet-18, with the stem without max-pooling."""
    chosen = spec("resnet18", dataset).model_copy(
        update={"device": "cuda:0", "precision": precision, "deterministic": True}
    )
    whole, _ = train(chosen, dataset, tmp_path / "whole")
    interrupted_at(step, chosen, dataset, tmp_path / "pieces")
    record, _ = train(chosen, dataset, tmp_path / "pieces", if_unfinished="resume")
    assert (record.weights, record.predictions) == (whole.weights, whole.predictions)
    assert record.environment.flags["deterministic"] == "True"


def test_deterministic_algorithms_are_on_while_training_alone(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    """The record says so, and on a CPU the weights are the same without."""
    plain, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    chosen = spec(tiny_model, dataset).model_copy(update={"deterministic": True})
    record, _ = train(chosen, dataset, tmp_path)
    told = [run.environment.flags["deterministic"] for run in (plain, record)]
    assert told == ["False", "True"]
    assert record.id != plain.id
    assert record.weights == plain.weights
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(heap.state() == "unchanged", reason="freed memory is the system's affair here")
def test_freed_memory_is_kept_by_the_engine_and_not_by_the_plain_loop(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record says so."""
    with heap.kept():
        kept = heap.state()  # in part, where a test before this one ran out of memory
    monkeypatch.setattr(heap, "_past", "returned")
    for engine, told in (("plain", "returned"), ("fast", kept)):
        record, _ = train(spec(tiny_model, dataset, engine=engine), dataset, tmp_path)
        assert record.environment.flags["freed_memory"] == told


def test_a_model_that_cannot_be_deterministic_is_refused_by_its_operator(
    dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch says of an operator that has no deterministic algorithm on a GPU."""

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_tiny(stem="cifar", num_classes=10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if torch.are_deterministic_algorithms_enabled():
                raise RuntimeError(
                    "max_pool2d_with_indices_backward_cuda does not have a deterministic"
                    " implementation, but you set 'torch.use_deterministic_algorithms(True)'."
                )
            logits: torch.Tensor = self.inner(images)
            return logits

    monkeypatch.setitem(senet.MODELS, "pooling", lambda **_: Pooling())
    chosen = spec("pooling", dataset).model_copy(update={"deterministic": True})
    with pytest.raises(UserError, match="max_pool2d_with_indices_backward_cuda has no determin"):
        train(chosen, dataset, tmp_path)


def drawing(*, stem: str, num_classes: int) -> nn.Module:
    """Return a tiny model that draws from torch's generator in training."""
    return nn.Sequential(nn.Dropout(0.3), build_tiny(stem=stem, num_classes=num_classes))


@pytest.mark.parametrize("is_restored", [True, False])
@pytest.mark.parametrize("step", [1, 6])
def test_what_a_model_draws_goes_on_too(
    step: int,
    is_restored: bool,
    dataset: data.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the generator's state, the control of this test, the weights are others."""
    monkeypatch.setitem(senet.MODELS, "drawing", drawing)
    chosen = spec("drawing", dataset)
    whole, _ = train(chosen, dataset, tmp_path / "whole")
    interrupted_at(step, chosen, dataset, tmp_path / "pieces")
    torch.manual_seed(99)
    if not is_restored:
        monkeypatch.setattr(generators, "restore", lambda *_: None)
    record, _ = train(chosen, dataset, tmp_path / "pieces", if_unfinished="resume")
    assert (record.weights == whole.weights) == is_restored


def test_an_unfinished_run_is_neither_continued_nor_thrown_away_unasked(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(6, chosen, dataset, tmp_path)
    with pytest.raises(UserError, match="holds an unfinished run; give --resume or --restart"):
        train(chosen, dataset, tmp_path)
    _, events = train(chosen, dataset, tmp_path, if_unfinished="restart")
    assert sum(isinstance(e, StepDone) for e in events) == 8


def test_what_killed_writers_left_is_removed_when_the_run_goes_on(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(2, chosen, dataset, tmp_path)
    folder = tmp_path / chosen.folder_name()
    for name in (".checkpoint-000001-00000000.ckpt.x1.tmp", ".weights.safetensors.x2.tmp"):
        (folder / name).write_bytes(b"half")
    train(chosen, dataset, tmp_path, if_unfinished="resume")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_run_is_not_continued_on_other_images(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(2, chosen, dataset, tmp_path)
    flipped = data.Split(dataset.train.images.flip(3).contiguous(), dataset.train.labels)
    other = data.make_dataset("shapes", "shapes", flipped, dataset.test, dataset.classes)
    with pytest.raises(UserError, match="was being trained on other images"):
        train(chosen, other, tmp_path, if_unfinished="resume")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"recipe": RECIPE.changed(lr=0.2)},
            r"recipe\.name t, not t-lr=0\.2; .*lr 0\.05, not 0\.2",
        ),
        ({"model": ModelSpec(name="tiny", stem="imagenet")}, r"model\.stem cifar, not imagenet"),
        ({"data": DATA.model_copy(update={"train_limit": 90})}, r"data\.train_limit 100, not 90"),
        ({"seed": 3}, "seed 0, not 3"),
    ],
)
def test_a_run_is_not_continued_as_another_and_the_difference_is_named(
    changes: dict[str, Any],
    named: str,
    tiny_model: str,
    dataset: data.Dataset,
    tmp_path: Path,
) -> None:
    """Another run has another folder; its checkpoint is in the wrong one."""
    chosen = spec(tiny_model, dataset)
    other = chosen.model_copy(update=changes)
    interrupted_at(2, chosen, dataset, tmp_path)
    (tmp_path / chosen.folder_name()).rename(tmp_path / other.folder_name())
    with pytest.raises(UserError, match=f"was being trained with .*{named}"):
        train(other, dataset, tmp_path, if_unfinished="resume")


def test_a_run_is_not_continued_by_more_processes(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset)
    interrupted_at(2, chosen, dataset, tmp_path)
    more = spec(tiny_model, dataset, world_size=2)
    keeper = saver.Saver(more, dataset.digest, tmp_path / chosen.folder_name(), distributed.ALONE)
    with pytest.raises(UserError, match="was being trained with world_size 1, not 2"):
        keeper.load()


def test_a_diverged_run_has_no_accuracy_and_no_weights(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    wild = RECIPE.changed(lr=1e30)
    record, _ = train(spec(tiny_model, dataset, recipe=wild), dataset, tmp_path)
    assert (record.status, record.test, record.weights) == ("diverged", None, None)
    assert record.reason is not None
    assert "loss" in record.reason
    assert not (tmp_path / record.id / "weights.safetensors").exists()


def test_a_run_that_diverges_keeps_its_last_good_state(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate explodes in epoch 2: the state after epoch 1 is there, finite."""
    monkeypatch.setattr(
        "bench.train.loop.learning_rate", lambda recipe, epoch, step, steps: 1e30 if epoch else 0.05
    )
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    assert record.status == "diverged"
    kept = checkpoint.load(checkpoint.checkpoints(tmp_path / record.id)[0], "cpu")
    assert kept["epoch"] == len(record.epochs) == 1
    assert all(bool(torch.isfinite(weight).all()) for weight in kept["model"].values())


def ruined(factor: float, step: int) -> Callable[..., nn.Module]:
    """Return a builder of models whose gradients are multiplied by ``factor`` in one step."""

    def ruin(steps: Iterator[int]) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda gradient: gradient * factor if next(steps) == step else gradient

    def build(*, stem: str, num_classes: int) -> nn.Module:
        model = build_tiny(stem=stem, num_classes=num_classes)
        for parameter in model.parameters():
            parameter.register_hook(ruin(itertools.count(1)))
        return model

    return build


@pytest.mark.parametrize("engine", ["fast", "plain"])
@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (float("nan"), "loss or weights are not finite in epoch 2"),
        (1e38, "the logits on the test set are not finite"),
    ],
)
def test_a_run_that_its_very_last_step_ruins_keeps_the_state_before(
    engine: str,
    factor: float,
    reason: str,
    dataset: data.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its losses are all finite, since they were computed before. It saves after step 4 of 8."""
    steps = itertools.count(1)
    monkeypatch.setattr(saver.Saver, "due", lambda self: next(steps) == 4)
    monkeypatch.setitem(senet.MODELS, "ruined", ruined(factor, step=8))
    record, _ = train(spec("ruined", dataset, engine=engine), dataset, tmp_path)
    assert (record.status, record.test, record.weights) == ("diverged", None, None)
    assert record.reason == reason
    states = [checkpoint.load(p, "cpu") for p in checkpoint.checkpoints(tmp_path / record.id)]
    largest = [max(float(w.abs().max()) for w in state["model"].values()) for state in states]
    assert any(value < 1e3 for value in largest), largest


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
    found = rescored(tmp_path / record.id)
    assert found.accuracy == record.test
    assert (found.recorded_top1, found.same_images) == (record.test.top1, True)


def test_weights_that_were_exchanged_are_noticed(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    (tmp_path / record.id / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="SHA-256 differs"):
        rescored(tmp_path / record.id)


def test_a_models_identity_spells_out_the_se_blocks_defaults() -> None:
    assert identify("se_resnet50") == ModelSpec(name="se_resnet50", reduction=16, se_bias=True)
    assert identify("resnet50") == ModelSpec(name="resnet50")
    with pytest.raises(UserError, match="resnet50 has no SE block"):
        identify("resnet50", attention={"reduction": 8})
    with pytest.raises(UserError, match="resnet50 has no SE block"):
        identify("resnet50", attention={"reduction": 8}, beside=["resnet50", "resnet101"])
    beside = ["resnet50", "se_resnet50"]
    plain = identify("resnet50", attention={"reduction": 8, "divisor": 8}, beside=beside)
    assert plain == ModelSpec(name="resnet50")
    with pytest.raises(UserError, match="unknown model 'vgg16'; choose from: se_resnet18"):
        identify("vgg16")
    with pytest.raises(UserError, match="stem: should be 'cifar' or 'imagenet'"):
        identify("resnet50", stem="vgg")


def test_low_precision_learns_in_a_run_as_well(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    """Autocast keeps copies of the weights; left on around all steps, nothing would be learnt."""
    recipe = RECIPE.changed(epochs=4, crop_padding=0, schedule="cosine")
    losses = {}
    for precision in ("fp32", "bf16"):
        chosen = spec(tiny_model, dataset, recipe=recipe, precision=precision)
        record, _ = train(chosen, dataset, tmp_path)
        losses[precision] = [epoch.loss for epoch in record.epochs]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"][-1] < 0.95 * losses["bf16"][0]


def test_auto_is_settled_once_and_recorded(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = RuntimeTrial(throughput={"eager": 9.0, "channels_last": 5.0})
    monkeypatch.setattr(choose_runtime, "choose", lambda *_: ("eager", rates))
    chosen = spec(tiny_model, dataset, runtime="auto")
    interrupted_at(3, chosen, dataset, tmp_path)
    monkeypatch.setattr(choose_runtime, "choose", lambda *_: pytest.fail("it was chosen before"))
    record, _ = train(chosen, dataset, tmp_path, if_unfinished="resume")
    assert (record.spec.runtime, record.runtime, record.trial) == ("auto", "eager", rates)
    whole, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    assert whole.weights == record.weights
    assert (whole.runtime, whole.trial, whole.trial_s) == ("eager", None, 0.0)


def test_an_auto_run_is_tested_again_as_it_was_trained(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset, runtime="auto"), dataset, tmp_path)
    found = rescored(tmp_path / record.id)
    assert (record.runtime, found.accuracy) == ("channels_last_matmul", record.test)


def test_the_target_is_waited_for_on_held_out_images_alone(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset, val_split=0.2, target_top1=0.01)
    record, events = train(chosen, dataset, tmp_path)
    assert record.validation is not None
    assert record.validation.num_images == 20
    assert [e.num_images for e in record.epochs] == [80, 80]
    assert all(e.val_top1 is not None for e in record.epochs)
    assert record.val_s > 0
    reached = [e.val_top1 is not None and e.val_top1 >= 0.01 for e in record.epochs]
    seconds = [e.epoch_wall_s for e in record.epochs]
    expected = seconds[0] if reached[0] else sum(seconds) if reached[1] else None
    assert record.target_s == expected
    assert isinstance(events[0], RunStarted)
    assert events[0].num_train == 80


def test_seconds_to_a_target_end_with_the_first_epoch_that_reaches_it(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    record, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    epochs = tuple(
        record.epochs[0].model_copy(update={"val_top1": top1, "epoch_wall_s": 2.0})
        for top1 in (0.5, 0.8, 0.7, 0.9)
    )
    record = record.model_copy(update={"epochs": epochs})
    assert [record.seconds_to(t) for t in (0.5, 0.7, 0.85, 0.95)] == [2.0, 4.0, 8.0, None]


def test_the_target_changes_nothing_of_a_run_but_the_validation_split_does(
    tiny_model: str, dataset: data.Dataset
) -> None:
    plain, held = spec(tiny_model, dataset), spec(tiny_model, dataset, val_split=0.1)
    aimed = spec(tiny_model, dataset, val_split=0.1, target_top1=0.9)
    assert held.digest() == aimed.digest() != plain.digest()
    with pytest.raises(UserError, match="a target needs a validation split"):
        spec(tiny_model, dataset, target_top1=0.9)


def test_the_averaged_weights_are_tested_and_saved(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    averaged = RECIPE.changed(ema_decay=0.99)
    record, _ = train(spec(tiny_model, dataset, recipe=averaged), dataset, tmp_path)
    plain, _ = train(spec(tiny_model, dataset), dataset, tmp_path)
    assert [e.loss for e in record.epochs] == [e.loss for e in plain.epochs]
    assert record.weights != plain.weights
    assert rescored(tmp_path / record.id).accuracy == record.test
    (saved,) = checkpoint.checkpoints(tmp_path / record.id)
    state = checkpoint.load(saved, "cpu")
    assert not torch.equal(state["model"]["0.weight"], state["average"]["0.weight"])


def test_mixed_images_and_all_other_augmentation_are_learnt_from(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    recipe = RECIPE.changed(
        mixup_alpha=0.2, cutout_size=8, random_erasing_prob=0.5, label_smoothing=0.1, flip=True
    )
    record, _ = train(spec(tiny_model, dataset, recipe=recipe), dataset, tmp_path)
    again, _ = train(spec(tiny_model, dataset, recipe=recipe), dataset, tmp_path / "again")
    assert record.status == "finished"
    assert again.weights == record.weights


def test_the_plain_engine_leaves_the_same_kind_of_record(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset, engine="plain", val_split=0.2)
    record, events = train(chosen, dataset, tmp_path)
    assert (record.spec.engine, record.runtime, record.status) == ("plain", "eager", "finished")
    assert record.test is not None
    assert sum(isinstance(e, StepDone) for e in events) == 6
    assert [e.num_images for e in record.epochs] == [80, 80]
    assert rescored(tmp_path / record.id).accuracy == record.test


def test_a_preempted_plain_run_goes_on_after_its_last_epoch(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    chosen = spec(tiny_model, dataset, engine="plain")
    whole, _ = train(chosen, dataset, tmp_path / "whole")
    interrupted_at(6, chosen, dataset, tmp_path / "pieces")
    record, events = train(chosen, dataset, tmp_path / "pieces", if_unfinished="resume")
    assert record.weights == whole.weights
    assert sum(isinstance(e, StepDone) for e in events) == 4


def hungry(room: int, room_to_test: int = 500) -> Callable[..., nn.Module]:
    """Return a builder of models that have memory for so many images in training and in tests."""

    class Hungry(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > (room if self.training else room_to_test):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            logits: torch.Tensor = super().forward(images)
            return logits

    return lambda **options: Hungry(build_tiny(**options))


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (20, "not enough memory to train with batch size 32; 16 fits: --batch-size 16"),
        (1, "batch size 32, nor with any smaller one"),
    ],
)
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_too_little_memory_ends_with_the_batch_size_that_fits(
    engine: str,
    room: int,
    message: str,
    dataset: data.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(senet.MODELS, "hungry", hungry(room))
    with pytest.raises(UserError, match=message):
        train(spec("hungry", dataset, engine=engine), dataset, tmp_path)
    assert not list(tmp_path.glob("*/run.json"))


def test_a_test_that_needs_too_much_memory_is_done_in_smaller_batches(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for 25 images a batch, validation and test find what they find with more."""
    whole, _ = train(spec(tiny_model, dataset, val_split=0.3), dataset, tmp_path)
    monkeypatch.setitem(senet.MODELS, "hungry", hungry(32, room_to_test=25))
    record, _ = train(spec("hungry", dataset, val_split=0.3), dataset, tmp_path)
    assert record.test == whole.test
    assert [e.val_top1 for e in record.epochs] == [e.val_top1 for e in whole.epochs]


def test_no_memory_for_a_single_test_image_is_said_in_one_line(
    dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(senet.MODELS, "hungry", hungry(32, room_to_test=0))
    with pytest.raises(UserError, match="cpu has not enough memory to classify a single image"):
        train(spec("hungry", dataset), dataset, tmp_path)


def test_a_trace_that_cannot_be_written_is_said_in_one_line(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"cannot write the trace /dev/null/trace\.json"):
        train(spec(tiny_model, dataset), dataset, tmp_path, trace=Path("/dev/null/trace.json"))


def test_a_trace_shows_the_parts_of_a_step(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    trace = tmp_path / "new" / "trace.json"
    train(spec(tiny_model, dataset), dataset, tmp_path, trace=trace)
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"data", "forward", "backward", "update"} <= names


def test_batches_that_cannot_be_shared_out_are_refused(
    tiny_model: str, dataset: data.Dataset
) -> None:
    def check(batch_size: int, **changes: Any) -> None:
        recipe = RECIPE.changed(batch_size=batch_size)
        checks.check_batch_size(spec(tiny_model, dataset, recipe=recipe, **changes), 100)

    check(100)
    check(90, val_split=0.1)
    check(32, world_size=16)
    with pytest.raises(UserError, match="batch size 32 is not divisible by the 3 processes"):
        checks.check_runnable(spec(tiny_model, dataset, world_size=3))
    with pytest.raises(UserError, match=r"batch size 4 is too small: .* choose 8 to 100"):
        check(4, world_size=4)
    with pytest.raises(UserError, match=r"batch size 1 is too small: .* choose 2 to 100"):
        check(1)
    with pytest.raises(UserError, match="batch size 91 is larger than the training set of 90"):
        check(91, val_split=0.1)


def test_a_gpu_that_vanishes_is_said_in_one_line_and_the_run_goes_on_later(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth step fails as CUDA's do when the GPU is gone; the checkpoint before it is used."""
    monkeypatch.setattr(saver, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(saver, "MAX_SHARE", 1e9)
    chosen, steps = spec(tiny_model, dataset), [0]
    whole, _ = train(chosen, dataset, tmp_path / "whole")

    def fail(event: Event) -> None:
        steps[0] += isinstance(event, StepDone)
        if steps[0] == 5:
            raise RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")

    with pytest.raises(UserError, match=r"^cpu failed: CUDA error: .* failure; --resume goes on$"):
        train(chosen, dataset, tmp_path / "pieces", emit=fail)
    record, events = train(chosen, dataset, tmp_path / "pieces", if_unfinished="resume")
    assert record.weights == whole.weights
    assert sum(isinstance(event, StepDone) for event in events) == 4
