"""Where images are held changes nothing of what comes of them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench import data
from bench.api import evaluate, train
from bench.data import cache, stored
from bench.data.holdout import hold_out
from bench.errors import UserError
from bench.record.read_write import read_record
from bench.record.run import RunRecord
from bench.spec.recipe import RECIPES
from bench.spec.run import DataSpec

STORAGES = ["memory", "mapped", "streamed"]
RECIPE = RECIPES["standard"].changed(batch_size=8, mixup_alpha=0.2, cutout_size=4, epochs=2)
USER_MODEL = """
import torch
def make(num_classes):
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Dropout(0.5),
        torch.nn.Linear(48, num_classes),
    )
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a tree of two classes with 30 training and 10 test images of noise, of any size."""
    random = np.random.default_rng(0)
    for split, num in (("train", 30), ("test", 10)):
        for number in range(num):
            folder = tmp_path / "images" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shape = *random.integers(12, 40, 2), 3
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return tmp_path / "images"


def hold(storage: str, place: Path, patch: pytest.MonkeyPatch) -> None:
    """Let there be room for this storage alone, and processes even for a few images."""
    patch.setattr(cache, "cache_root", lambda: place / f"cache-{storage}")
    patch.setattr(cache, "MEMORY_SHARE", 0.25 if storage == "memory" else 0.0)
    patch.setattr(cache, "DISK_SHARE", 0.0 if storage == "streamed" else 0.9)
    patch.setattr(stored, "FEW", 0)


def load(root: Path, **options: Any) -> data.Dataset:
    facts = {"name": "folder", "data_dir": str(root), "image_size": 16, **options}
    return data.load(DataSpec.model_validate(facts))


def batches(dataset: data.Dataset, layout: torch.memory_format) -> list[Tensor]:
    """Return the images and targets of an epoch begun at its second step, and of the test."""
    kept, held_out, _ = hold_out(dataset.train, 0.2)
    assert held_out is not None
    normalization = data.normalization(RECIPE, dataset)
    placed = data.place(kept, "cpu", RECIPE.crop_padding, layout)
    plan = data.plan_epoch(len(placed), RECIPE, seed=3, epoch=1)
    found = [*data.train_batches(placed, plan, RECIPE, normalization, 1, num_classes=2)]
    for split in (held_out, dataset.test):
        found += data.test_batches(data.place(split, "cpu", 0, layout), 3, normalization)
    return [tensor for batch in found for tensor in batch]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batches_are_the_same_however_images_are_held(
    root: Path, monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format
) -> None:
    """Digest, statistics, and every bit of every batch, when decoded and when read again."""
    found = {}
    for storage in STORAGES:
        hold(storage, root.parent, monkeypatch)
        for when in ("made", "kept"):
            dataset = load(root, train_limit=28)
            assert dataset.storage == storage
            found[storage, when] = dataset, batches(dataset, layout)
    first, expected = found["memory", "made"]
    for dataset, tensors in found.values():
        assert (dataset.digest, dataset.pixel_std) == (first.digest, first.pixel_std)
        assert len(tensors) == len(expected)
        for tensor, wanted in zip(tensors, expected, strict=True):
            assert torch.equal(tensor, wanted)
            assert tensor.stride() == wanted.stride()


@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_trainings_give_the_same_weights_however_images_are_held(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Two epochs with dropout: the same bits, and the record says where the images were."""
    (tmp_path / "mine.py").write_text(USER_MODEL)
    options: dict[str, Any] = {"data_dir": str(root), "image_size": 16, "device": "cpu"}
    found = set()
    for storage in STORAGES:
        hold(storage, root.parent, monkeypatch)
        (record,) = train(
            f"py:{tmp_path}/mine.py:make", "folder", out=tmp_path / storage, progress=False,
            **options, engine=engine, epochs=2, batch_size=8,
        )  # fmt: skip
        assert record.dataset.storage == storage
        assert record.weights is not None
        assert record.test is not None
        found.add((record.weights.sha256, record.test.loss))
        (folder,) = (tmp_path / storage).iterdir()
        again = evaluate(folder, device="cpu", progress=False)
        assert again.accuracy == record.test
    assert len(found) == 1


class Full:
    """A file on a disk that takes no more."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_is_done_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory, and the file breaks off in the middle: streamed, the same images."""
    whole = load(root)
    hold("mapped", root.parent, monkeypatch)
    written = cache._written
    calls = []

    def full(file: Any, images: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            return written(file, images)
        with file:
            return written(Full(file.name), images)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "_written", full)
    dataset = load(root)
    assert dataset.train.images.storage == "streamed"  # type: ignore[union-attr]
    assert dataset.digest == whole.digest


def test_a_bad_image_in_the_middle_is_named_or_skipped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named with the way out; with --skip-bad counted, told, recorded, and kept apart."""
    (root / "train/a/14.png").write_bytes(b"\x89PNG no more")
    (root / "test/b/05.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"14\.png cannot be read as an image.*--skip-bad"):
        load(root)
    digests = set()
    for storage in STORAGES:
        hold(storage, root.parent, monkeypatch)
        for _ in range(2):
            dataset = load(root, skip_bad=True)
            digests.add(dataset.digest)
            assert (len(dataset.train), len(dataset.test)) == (29, 9)
            assert dataset.num_skipped == 2
            assert "14.png cannot be read" in dataset.notes[-1]
            assert data.facts(dataset).num_skipped == 2
    assert len(digests) == 1
    with pytest.raises(UserError, match="--skip-bad"):
        load(root)


def test_a_class_of_bad_images_alone_is_an_error(root: Path) -> None:
    """What is skipped must leave every class an image."""
    for path in (root / "test/b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="has no test image of class 'b'"):
        load(root, skip_bad=True)


def test_an_image_that_goes_bad_later_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is decoded for each batch can change after the first look."""
    hold("streamed", root.parent, monkeypatch)
    dataset = load(root)
    (root / "test/a/00.png").write_bytes(b"")
    normalization = data.normalization(RECIPE, dataset)
    with pytest.raises(UserError, match=r"00\.png cannot be read as an image"):
        list(data.test_batches(data.place(dataset.test, "cpu"), 4, normalization))


def test_reading_draws_nothing_from_torchs_generator(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else dropout would drop other neurons where images are streamed."""
    hold("streamed", root.parent, monkeypatch)
    dataset = load(root)
    before = torch.get_rng_state()
    list(dataset.test.chunks())
    assert torch.equal(before, torch.get_rng_state())


def test_old_records_say_nothing_of_storage() -> None:
    """They were written before there was a choice."""
    (path, *_) = sorted((Path(__file__).parents[2] / "records").rglob("run.json"))
    record = read_record(path)
    assert isinstance(record, RunRecord)
    assert record.dataset.storage is None
