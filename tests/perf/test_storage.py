"""Large folders of images: how soon a second start is ready, and what an evaluation holds."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from bench import data
from bench.data import cache
from bench.spec.run import DataSpec
from bench.train import evaluate
from bench.train.predict import batch_size

SECOND_START_S = 2.0
MOST_BYTES = 10**9


def make_images(root: Path, num: int, size: int) -> Path:
    """Write 50 JPEG images, and as many names of theirs as there shall be files of two classes."""
    random = np.random.default_rng(0)
    for split, many in (("train", num), ("test", max(50, num // 5))):
        for number in range(many):
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{number:06}.jpg"
            if number >= 50:
                os.link(folder / f"{number % 50:06}.jpg", path)
                continue
            pixels = random.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((size, size)).save(path)
    return root


def test_a_second_start(benchmark: Any, tmp_path: Path) -> None:
    """60,000 JPEG images of 32×32 that were decoded before are ready within two seconds."""
    num = 50_000 if benchmark.enabled else 200
    root = make_images(tmp_path / "images", num, 32)
    spec = DataSpec(name="folder", data_dir=str(root))
    first = data.load(spec)
    again = benchmark.pedantic(lambda: data.load(spec), rounds=3)
    assert again.digest == first.digest
    if benchmark.enabled:
        assert benchmark.stats.stats.min <= SECOND_START_S


@pytest.mark.parametrize("storage", ["mapped", "streamed"])
def test_an_evaluation_of_many_large_images(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """50,000 images of 224×224, 7.5 GB as bytes, need less than 1 GB above torch's own."""
    root = make_images(tmp_path / "images", 50_000 if benchmark.enabled else 300, 224)
    monkeypatch.setattr(cache, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr(cache, "DISK_SHARE", 0.0 if storage == "streamed" else 0.9)
    before = _resident()
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], _resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        dataset = data.load(DataSpec(name="folder", data_dir=str(root), image_size=224))
        placed = data.place(dataset.train, "cpu")
        imagenet = data.NORMALIZATIONS["imagenet"]
        assert imagenet is not None
        model = torch.nn.Sequential(torch.nn.AvgPool2d(224), torch.nn.Flatten())

        def classify() -> evaluate.Predictions:
            batches = data.test_batches(placed, batch_size(224), imagenet)
            return evaluate.predict(model, batches, device="cpu")

        predictions = benchmark.pedantic(classify, rounds=1)
    finally:
        done.set()
        thread.join()
    assert dataset.storage == storage
    assert len(predictions.labels) == len(dataset.train)
    assert peak[0] - before <= MOST_BYTES


def _resident() -> int:
    """Return the bytes that this process and those that decode for it hold, shared ones once."""
    total = 0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            facts = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(facts, "pss", facts.uss)
    return total
