"""The embedded data set is the same everywhere, balanced, and neither trivial nor too hard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import data
from bench.data import Dataset, load, normalization, place, plan_epoch, train_batches
from bench.data.shapes import CLASSES, OUTLINES, Draws, draw_split
from bench.errors import UserError
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec

WHOLE_SET = "6181c48be57beeb32c4e92e22943afed9ed41f14aec3616afbe9cd505617e854"


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    return load(DataSpec(name="shapes"))


def test_every_machine_draws_the_same_bytes(shapes: Dataset) -> None:
    """The SHA-256 of all pixels and labels is the one written here."""
    assert shapes.digest == WHOLE_SET


def test_it_holds_5000_and_1000_balanced_images(shapes: Dataset) -> None:
    """Each of ten classes has 500 training and 100 test images of 3×32×32 bytes."""
    assert shapes.train.images.shape == (5000, 3, 32, 32)
    assert shapes.test.images.shape == (1000, 3, 32, 32)
    assert shapes.train.images.dtype == torch.uint8
    assert shapes.train.images.is_contiguous()
    assert shapes.train.labels.dtype == torch.int64
    assert shapes.train.labels.bincount().tolist() == [500] * 10
    assert shapes.test.labels.bincount().tolist() == [100] * 10
    assert shapes.classes == (
        "circle",
        "ring",
        "half_disc",
        "crescent",
        "triangle",
        "square",
        "bar",
        "cross",
        "star",
        "heart",
    )


def test_labels_are_shuffled(shapes: Dataset) -> None:
    """Any 500 images in a row hold every class between 20 and 80 times."""
    for labels in shapes.train.labels.split(500):
        counts = labels.bincount(minlength=10)
        assert int(counts.min()) >= 20
        assert int(counts.max()) <= 80


def test_no_image_is_in_both_splits(shapes: Dataset) -> None:
    """Training and test images are 6,000 different images."""
    images = torch.cat([shapes.train.images, shapes.test.images]).flatten(1).numpy()
    assert len(np.unique(images, axis=0)) == 6000


def test_another_seed_draws_other_images() -> None:
    """Images follow from the seed: the same one gives the same, another gives others."""
    first, again, other = draw_split(20, 32, 1), draw_split(20, 32, 1), draw_split(20, 32, 2)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes_show_the_same_scenes(size: int) -> None:
    """At another size the images, scaled back, are those of 32 pixels up to noise and edges."""
    usual, scaled = draw_split(300, 32, 3), draw_split(300, size, 3)
    assert scaled.images.shape == (300, 3, size, size)
    assert torch.equal(usual.labels, scaled.labels)
    one = F.interpolate(usual.images.float(), size=8, mode="area")
    two = F.interpolate(scaled.images.float(), size=8, mode="area")
    assert (one - two).abs().mean() < 8  # of 255; unrelated images differ by 58


@pytest.mark.parametrize("size", [8, 225])
def test_sizes_that_cannot_show_shapes_are_refused(size: int) -> None:
    """Below 16 and above 224 pixels there is an error that says so."""
    with pytest.raises(UserError, match=f"image size {size} .* from 16 to 224"):
        load(DataSpec(name="shapes", image_size=size))


def test_progress_counts_to_the_end() -> None:
    """Progress is reported and ends with all images done."""
    seen: list[tuple[str, int, int]] = []
    draw_split(600, 16, 0, lambda *now: seen.append(now))
    assert seen == [
        ("drawing shapes", 250, 600),
        ("drawing shapes", 500, 600),
        ("drawing shapes", 600, 600),
    ]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("circle", [(0, 0), (0.8, 0)], [(0.95, 0), (0.7, 0.7)]),
        ("ring", [(0.75, 0)], [(0, 0), (1.05, 0)]),
        ("half_disc", [(0, 0), (0, 0.5)], [(0, -0.5), (0, 0.6)]),
        ("crescent", [(-0.6, 0)], [(0.5, 0), (0, 1.1)]),
        ("triangle", [(0, 0), (0, -1), (0.8, 0.5)], [(0, 0.6), (0.8, -0.5)]),
        ("square", [(0.7, 0.7)], [(0.85, 0)]),
        ("bar", [(0.95, 0.2)], [(0, 0.4)]),
        ("cross", [(0.9, 0), (0, 0.9)], [(0.5, 0.5)]),
        ("star", [(0, 0), (0, -1)], [(0, 1), (0.6, 0.1)]),
        ("heart", [(0, 0), (0.4, -0.7), (0, 0.7)], [(0, -0.9), (0.6, 0.6)]),
    ],
)
def test_outlines_cover_what_their_names_say(
    name: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    """The signed distance is negative at points in the shape and positive beside it."""

    def distance(points: list[tuple[float, float]]) -> np.ndarray:
        x, y = np.array(points, np.float32).T
        return OUTLINES[name](x, y)

    assert (distance(inside) < 0).all()
    assert (distance(outside) > 0).all()


def test_draws_are_uniform() -> None:
    """Integers below 10 come equally often (chi-square below its 0.1 % limit of 27.9)."""
    counts = np.bincount(Draws(np.random.PCG64(5)).integers((20000,), 10))
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9
    assert len(counts) == 10


def test_a_linear_classifier_stays_below_60_percent(shapes: Dataset) -> None:
    """The best ridge regression on the pixels classifies fewer than 60 % of the test images."""

    def design(images: Tensor) -> Tensor:
        return F.pad(images.flatten(1).double() / 255 - 0.4, (0, 1), value=1.0)

    train, test = design(shapes.train.images), design(shapes.test.images)
    targets = F.one_hot(shapes.train.labels).double()
    products, moments = train.T @ train, train.T @ targets
    accuracies = []
    for strength in (30.0, 300.0, 3000.0):
        weights = torch.linalg.solve(products + strength * torch.eye(len(products)), moments)
        hits = (test @ weights).argmax(1) == shapes.test.labels
        accuracies.append(float(hits.double().mean()))
    assert 0.3 < max(accuracies) < 0.6


def test_a_small_cnn_passes_90_percent(shapes: Dataset) -> None:
    """Four convolutions, three epochs and no augmentation classify more than 90 %."""
    torch.manual_seed(0)
    model = _small_cnn()
    recipe = Recipe(name="test", epochs=3, batch_size=50)
    scale = normalization(recipe, shapes)
    split = place(shapes.train, "cpu")
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=300)
    for epoch in range(3):
        plan = plan_epoch(5000, recipe, seed=0, epoch=epoch)
        for images, labels in train_batches(split, plan, recipe, scale):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        hits = sum(
            int((model(images).argmax(1) == labels).sum())
            for images, labels in data.test_batches(place(shapes.test, "cpu"), 250, scale)
        )
    assert hits > 900


def _small_cnn() -> nn.Module:
    def convolution(channels: int, filters: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *convolution(3, 16),
        nn.MaxPool2d(2),
        *convolution(16, 32),
        nn.MaxPool2d(2),
        *convolution(32, 64),
        *convolution(64, 64),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, len(CLASSES)),
    )
