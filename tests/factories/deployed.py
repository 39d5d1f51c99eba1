"""A small network that knows its data, and sessions of it with planted faults."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.compute.session import Session, adapter, ready
from bench.data import Normalization
from bench.data.dataset import Dataset, Split, make_dataset
from bench.measure.accuracy import TestSet

CLASSES = ("red", "green", "blue", "dark", "light", "grey")
SIZE = 8


def split(num_images: int, seed: int) -> Split:
    """Return noisy images whose class is their colour."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % len(CLASSES)
    pure = [(200, 60, 60), (60, 200, 60), (60, 60, 200), (30,) * 3, (230,) * 3, (120,) * 3]
    colours = torch.tensor(pure)
    noise = 60 * torch.randn(num_images, 3, SIZE, SIZE, generator=draw)
    noise += 45 * torch.randn(num_images, 3, 1, 1, generator=draw)  # some colours are mistaken
    images = (colours[labels][:, :, None, None] + noise).clamp(0, 255).to(torch.uint8)
    return Split(images.contiguous(), labels)


def dataset(num_train: int = 240, num_test: int = 300) -> Dataset:
    return make_dataset("colours", "colours", split(num_train, 0), split(num_test, 1), CLASSES)


def test_set(**sizes: int) -> TestSet:
    return TestSet(dataset(**sizes), Normalization((0.5,) * 3, (0.5,) * 3))


test_set.__test__ = False  # type: ignore[attr-defined]


def network(seed: int = 0) -> nn.Module:
    """Return a network with BatchNorm that tells most of the colours: its head is least squares."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    head = nn.Linear(16, len(CLASSES))
    seen = split(240, 0)
    images = (seen.images.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        for _ in range(30):  # until the statistics are those of the images
            body.train()(images)
        features = torch.cat([body.eval()(images), torch.ones(len(images), 1)], dim=1)
        wanted = nn.functional.one_hot(seen.labels, len(CLASSES)).float()
        gram = features.T @ features + torch.eye(17)  # ridge: int8 need not be exact to the bit
        solved = torch.linalg.solve(gram, features.T @ wanted)
        head.weight.copy_(4 * solved[:-1].T)
        head.bias.copy_(4 * solved[-1])
    return nn.Sequential(*body, head).eval()


def session_of(model: nn.Module) -> Session:
    return Session(ready(model, "cpu", "fp32"), adapter("cpu", "fp32"))


def fixed(session: Session, batch_size: int) -> Session:
    """Return a session that takes batches of one size only, as exported ones do."""

    def call(images: Tensor) -> Tensor:
        assert images.shape == (batch_size, 3, SIZE, SIZE), images.shape
        return session.call(images)

    return Session(call, session.adapt)


def wrongly_folded(model: nn.Module) -> nn.Module:
    """Return the network with its last BatchNorm folded without its mean."""
    wrong = copy.deepcopy(model)
    norm = [m for m in wrong.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    assert norm.running_mean is not None
    norm.running_mean.zero_()
    return wrong


def with_swapped_classes(session: Session) -> Session:
    """Return a session whose first two logits have changed places."""
    order = torch.tensor([1, 0, *range(2, len(CLASSES))])
    call: Callable[[Tensor], Tensor] = lambda images: session.call(images)[:, order]  # noqa: E731
    return Session(call, session.adapt)
