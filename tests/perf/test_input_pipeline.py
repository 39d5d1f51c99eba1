"""Making batches on the device, beside torchvision's transforms in a DataLoader, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from bench.data import Normalization, place, plan_epoch, train_batches
from bench.data.dataset import Split
from bench.spec.recipe import Recipe

NUM_IMAGES = 10_000
FEW_IMAGES = 500  # where benchmarks are run as tests, untimed
CIFAR = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
STANDARD = Recipe(name="standard", batch_size=128, crop_padding=4, flip=True)
AT_LEAST = 20.0  # times the DataLoader with two workers

Epoch = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class Images(TorchDataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: from an array, by PIL, through transforms."""

    def __init__(self, split: Split) -> None:
        self.pixels, self.labels = split.images.permute(0, 2, 3, 1).numpy(), split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR.mean, CIFAR.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def on_device(split: Split, memory_format: torch.memory_format, device: str = "cpu") -> Epoch:
    placed = place(split, device, STANDARD.crop_padding, memory_format)

    def epoch() -> Iterable[tuple[Tensor, Tensor]]:
        plan = plan_epoch(len(split), STANDARD, seed=0, epoch=0)
        return train_batches(placed, plan, STANDARD, CIFAR)

    return epoch


def in_loader(split: Split, num_workers: int) -> Epoch:
    loader = DataLoader(
        Images(split),
        batch_size=STANDARD.batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    return lambda: loader


PIPELINES: dict[str, Callable[[Split], Epoch]] = {
    "device, contiguous": lambda split: on_device(split, torch.contiguous_format),
    "device, channels_last": lambda split: on_device(split, torch.channels_last),
    "DataLoader, 2 workers": lambda split: in_loader(split, 2),
    "DataLoader, 0 workers": lambda split: in_loader(split, 0),
}


@pytest.fixture
def split(benchmark: BenchmarkFixture) -> Split:
    num_images = FEW_IMAGES if benchmark.disabled else NUM_IMAGES
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=random)
    return Split(images, torch.arange(num_images) % 10)


def count(epoch: Epoch) -> int:
    return sum(len(labels) for _, labels in epoch())


@pytest.mark.benchmark(group="one epoch of 10,000 images: crop, flip, normalise", warmup=False)
@pytest.mark.parametrize("name", PIPELINES)
def test_epoch_of_batches(benchmark: BenchmarkFixture, split: Split, name: str) -> None:
    """Every pipeline makes each image once; the table says how long an epoch takes."""
    epoch = PIPELINES[name](split)
    count(epoch)  # starts the workers
    assert benchmark.pedantic(count, [epoch], rounds=5) == len(split)


@pytest.mark.parametrize("name", ["device, contiguous", "device, channels_last"])
def test_ratio_to_the_loader(benchmark: BenchmarkFixture, split: Split, name: str) -> None:
    """On the device an epoch takes less than a twentieth of what two workers need.

    Both are run in turn, so that both meet the same machine; the best of each is compared.
    """
    ours, theirs = PIPELINES[name](split), PIPELINES["DataLoader, 2 workers"](split)
    rounds = 1 if benchmark.disabled else 3
    count(theirs)  # starts the workers
    ratio = min(_seconds(theirs) for _ in range(rounds)) / min(
        _seconds(ours) for _ in range(5 * rounds)
    )
    benchmark.extra_info.update(ratio=ratio, wanted=f"ratio ≥ {AT_LEAST:g}")
    assert benchmark.pedantic(count, [ours]) == len(split)
    if not benchmark.disabled:
        assert ratio >= AT_LEAST


def _seconds(epoch: Epoch) -> float:
    begin = perf_counter()
    count(epoch)
    return perf_counter() - begin


@pytest.mark.gpu
@pytest.mark.benchmark(group="one epoch of 10,000 images on cuda")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_epoch_on_cuda(
    benchmark: BenchmarkFixture, split: Split, memory_format: torch.memory_format
) -> None:
    """The same on a GPU, waited for at the end."""
    epoch = on_device(split, memory_format, "cuda:0")

    def finished() -> int:
        num_images = count(epoch)
        torch.cuda.synchronize()
        return num_images

    assert benchmark.pedantic(finished, rounds=10, warmup_rounds=2) == len(split)
