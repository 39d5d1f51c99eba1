"""What is kept of a training: the newest two states and the best, at 1 % of the time, whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import resource
from pathlib import Path

import pytest
import small_disk
import torch

from bench.compute import training_state
from bench.compute.distributed import ALONE
from bench.compute.training_state import Training
from bench.errors import UserError
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.train import checkpoint, saver
from bench.train.saver import Saver
from tests.conftest import build_tiny

SPEC = RunSpec(model=ModelSpec(name="tiny"), data=DataSpec(), recipe=Recipe(name="r"))


def new_training() -> Training:
    torch.manual_seed(0)
    model = build_tiny(stem="cifar", num_classes=10)
    return training_state.start(model, SPEC.recipe, device="cpu", precision="fp32")


def finish_epoch(training: Training, val_top1: float | None) -> None:
    """Let an epoch pass, after which the first weights are all its number."""
    training.epoch += 1
    with torch.no_grad():
        next(training.model.parameters()).fill_(training.epoch)
    training.history.append(
        EpochFacts(
            epoch=training.epoch,
            loss=1.0,
            top1=0.5,
            lr=0.1,
            num_images=10,
            epoch_wall_s=1.0,
            throughput=10.0,
            val_top1=val_top1,
        )
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def trained(folder: Path, *accuracies: float | None, save_at: tuple[int, ...]) -> Training:
    """Train an epoch for each validation accuracy, saving after those of ``save_at``."""
    keeper, training = Saver(SPEC, "digest", folder, ALONE), new_training()
    for val_top1 in accuracies:
        finish_epoch(training, val_top1)
        keeper.note_epoch(training)
        if training.epoch in save_at:
            keeper.save(training)
    return training


def test_the_best_on_validation_is_kept_beside_the_newest_two(tmp_path: Path) -> None:
    trained(tmp_path, 0.2, 0.7, 0.5, 0.7, 0.6, save_at=(1, 2, 3, 4, 5))
    assert names(tmp_path) == [
        "checkpoint-000002-00000000-best.ckpt",
        "checkpoint-000004-00000000.ckpt",
        "checkpoint-000005-00000000.ckpt",
    ]
    best = checkpoint.load(tmp_path / "checkpoint-000002-00000000-best.ckpt", "cpu")
    assert set(best["model"]["0.weight"].flatten().tolist()) == {2.0}
    assert best["history"][-1]["val_top1"] == 0.7


def test_the_best_is_written_with_the_next_checkpoint_as_it_was(tmp_path: Path) -> None:
    """Epoch 2 is the best; the first checkpoint is written after epoch 4."""
    trained(tmp_path, 0.2, 0.7, 0.5, 0.6, save_at=(4,))
    best = checkpoint.load(tmp_path / "checkpoint-000002-00000000-best.ckpt", "cpu")
    newest = checkpoint.load(tmp_path / "checkpoint-000004-00000000.ckpt", "cpu")
    for saved, epoch in ((best, 2), (newest, 4)):
        assert saved["epoch"] == epoch
        assert set(saved["model"]["0.weight"].flatten().tolist()) == {epoch}


def test_without_validation_there_is_no_best(tmp_path: Path) -> None:
    trained(tmp_path, None, None, None, save_at=(1, 2, 3))
    assert names(tmp_path) == ["checkpoint-000002-00000000.ckpt", "checkpoint-000003-00000000.ckpt"]


def test_the_best_is_noted_again_by_a_training_that_goes_on_after_it(tmp_path: Path) -> None:
    """A process that saves at the end of an epoch, as the plain loop does, notes it afterwards."""
    training = trained(tmp_path, 0.2, save_at=())
    Saver(SPEC, "digest", tmp_path, ALONE).save(training)
    again, resumed = Saver(SPEC, "digest", tmp_path, ALONE), new_training()
    again.restore(resumed, again.load())
    again.save(resumed)
    assert "checkpoint-000001-00000000-best.ckpt" in names(tmp_path)


def test_the_best_stands_in_when_the_newest_are_damaged(tmp_path: Path) -> None:
    trained(tmp_path, 0.2, 0.7, 0.5, 0.6, save_at=(2, 3, 4))
    for name in names(tmp_path):
        if "best" not in name:
            (tmp_path / name).write_bytes(b"")
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    saved = keeper.load()
    assert saved is not None
    assert saved["epoch"] == 2
    assert [problem.split()[0] for problem in keeper.problems] == [
        "checkpoint-000004-00000000.ckpt",
        "checkpoint-000003-00000000.ckpt",
    ]


def test_what_takes_long_to_save_is_saved_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save of 2 s, at 0.8 % of the time, is due after 250 s; a quick one after a minute."""
    now = [0.0]
    monkeypatch.setattr(saver, "monotonic", lambda: now[0])
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    due = []
    for last_s in (0.1, 2.0):
        keeper.last_s, keeper.saved_at = last_s, 0.0
        for now[0] in (59.0, 61.0, 249.0, 251.0):
            due.append(keeper.due())
    assert due == [False, True, True, True, False, False, False, True]


def test_a_full_disk_is_said_and_what_was_saved_before_is_intact(tmp_path: Path) -> None:
    with small_disk.mounted(tmp_path / "small disk", "size=200k") as folder:
        keeper, training = Saver(SPEC, "digest", folder, ALONE), new_training()
        keeper.save(training)
        (before,) = names(folder)
        content = (folder / before).read_bytes()
        with contextlib.suppress(OSError), (folder / "others").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        finish_epoch(training, 0.5)
        keeper.note_epoch(training)
        for _ in range(3):
            with pytest.raises(UserError, match=f"cannot write .*: {os.strerror(errno.ENOSPC)}"):
                keeper.save(training)
        assert names(folder) == sorted([before, "others"])
        assert (folder / before).read_bytes() == content
        (folder / "others").unlink()
        keeper.save(training)
        assert [name.endswith(".ckpt") for name in names(folder)] == [True] * 3


@pytest.mark.parametrize("room", [0, 10, 4000, 12_000])
def test_a_write_that_fails_anywhere_leaves_what_was_there(tmp_path: Path, room: int) -> None:
    """The system refuses to let a file grow beyond so many bytes; a checkpoint has more."""
    keeper, training = Saver(SPEC, "digest", tmp_path, ALONE), new_training()
    keeper.save(training)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert all(len(content) > 12_000 for content in before.values())
    finish_epoch(training, None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*: File too large"):
            keeper.save(training)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


MOMENTA = new_training().optimizer.state_dict()
SEVEN = {"momentum_buffer": torch.zeros(7)}
FORGED: dict[str, dict[str, object]] = {
    "no weights": {"model": None},
    "other weights": {"model": {"0.weight": torch.ones(2)}},
    "an optimiser of another kind": {"optimizer": {"state": {}, "param_groups": []}},
    "totals of another size": {"totals": torch.ones(99)},
    "times that are none": {"wall_s": None, "history": [{"epoch": 1}]},
    "a history that is none": {"history": 3},
    "epochs that were not trained": {"history": []},
    "an epoch after the last": {"epoch": 5000},
    "a time that is none": {"wall_s": float("nan")},
    "a time in words": {"val_s": "x"},
    "a negative time": {"compile_s": -1.0},
    "fewer images than none": {"num_images": -20},
    "a step after the last": {"step": 5000},
    "no generators": {"generators": []},
    "generators that are none": {"generators": ["x"]},
    "a machine that is none": {"machine": 1},
    "problems that are none": {"problems": [{}]},
    "a trial that is none": {"trial": {"nothing": 1}},
    "problems in one text": {"problems": "abc"},
    "a runtime that is none": {"runtime": []},
    "a runtime that there is not": {"runtime": "warp"},
    "half an image": {"num_images": 0.5},
    "a truth for a number": {"num_images": True},
    "momenta of another shape": {
        "optimizer": MOMENTA | {"state": dict.fromkeys(MOMENTA["state"], SEVEN)}
    },
    "momenta of fewer weights": {"optimizer": MOMENTA | {"state": {}}},
    "an identity that is none": {"identity": [], "spec": "x"},
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_whole_checkpoint_of_something_else_is_told_in_one_line(
    tmp_path: Path, kind: str
) -> None:
    """Whoever can write a hash can write anything; the training is not begun from half of it."""
    trained(tmp_path, None, save_at=(1,))
    (path,) = tmp_path.iterdir()
    state = checkpoint.load(path, "cpu") | FORGED[kind]
    path.unlink()
    checkpoint.save(tmp_path, state)
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    with pytest.raises(UserError) as caught:
        keeper.restore(new_training(), keeper.load(), num_steps=100)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("missing", ["model", "optimizer", "epoch", "history", "generators"])
def test_a_checkpoint_that_lacks_something_is_told_in_one_line(
    tmp_path: Path, missing: str
) -> None:
    trained(tmp_path, None, save_at=(1,))
    (path,) = tmp_path.iterdir()
    state = checkpoint.load(path, "cpu")
    buffer = io.BytesIO()
    torch.save({key: value for key, value in state.items() if key != missing}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(checkpoint.MAGIC + digest + b"\n" + buffer.getvalue())
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    if missing == "epoch":  # no state of a training at all: as any damaged file
        assert keeper.load() is None
        assert len(keeper.problems) == 1
        return
    with pytest.raises(UserError, match="that is none of this training"):
        keeper.restore(new_training(), keeper.load())
