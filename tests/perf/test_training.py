"""The fast engine beside the plain loop, in one run: CIFAR-sized images, batches of 128.

Steps are timed from one to the next while an epoch goes on, so that making the batches counts and
starting the loader's workers does not, as in a long epoch. The first step of an epoch is left out.
Where benchmarks are run as tests, a tiny model takes the steps and nothing is compared.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

import senet
from bench import data
from bench.compute.training_step import Setting, memory_format, place
from bench.data import Normalization, Split
from bench.machine import clock, device_memory, numerics
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.values import Precision
from bench.train import choose_runtime, loop, plain_loop
from tests.conftest import build_tiny
from tests.perf.fresh import in_fresh_process

CIFAR = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
STANDARD = Recipe(name="standard", epochs=1, batch_size=128, crop_padding=4, flip=True)
STEPS_OF_A_LONG_RUN = 400  # of these models on a CPU: too few to be worth compiling
OVERHEAD = 0.02  # of an epoch of ResNet-50


@dataclass(frozen=True)
class Work:
    """A model to train for a few steps on images of noise."""

    build: Callable[[], nn.Module]
    images: Split
    recipe: Recipe
    device: str = "cpu"
    precision: Precision = "fp32"


def work(benchmark: BenchmarkFixture, name: str, stem: str, num_steps: int, **where: Any) -> Work:
    batch_size = 4 if benchmark.disabled else STANDARD.batch_size
    num_images = num_steps * batch_size
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=random)

    make = build_tiny if benchmark.disabled else partial(senet.build, name)
    build = partial(seeded, partial(make, stem=stem, num_classes=10))
    recipe = STANDARD.changed(batch_size=batch_size)
    return Work(build, Split(pixels, torch.arange(num_images) % 10), recipe, **where)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


class Intervals:
    """Seconds from step to step, the device waited for at each."""

    def __init__(self, device: str) -> None:
        self.synchronize = clock.synchronizer(device)
        self.times: list[float] = []

    def note(self) -> None:
        """Note the time after a step."""
        self.synchronize()
        self.times.append(perf_counter())

    def seconds(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.times)]

    def between(self, taken: Iterator[EpochFacts | None], num_images: int) -> list[float]:
        """Take all steps of one epoch of so many images; return the seconds between them."""
        for facts in taken:
            if facts is None:
                self.note()
            else:
                assert facts.num_images == num_images
        return self.seconds()


@contextlib.contextmanager
def as_the_engine(work: Work) -> Iterator[None]:
    """Set torch and memory as a training does."""
    settings = (
        numerics.computing_in(work.device, work.precision),
        numerics.fixed_shapes(work.device),
    )
    with settings[0], settings[1], device_memory.keeping_freed(work.device):
        yield


def plain_steps_s(work: Work) -> list[float]:
    numerics.prepare(work.device)
    training = plain_loop.start(work.build().to(work.device), work.recipe, work.device)
    intervals = Intervals(work.device)
    given = {"seed": 0, "device": work.device}
    with numerics.as_torch_comes():
        taken = plain_loop.train(training, work.images, work.recipe, CIFAR, **given)
        return intervals.between(taken, len(work.images))


def fast_steps_s(work: Work, runtime: str) -> list[float]:
    setting = Setting(work.device, work.precision, runtime)
    model = place(work.build(), work.device, runtime)
    training = choose_runtime.start(model, work.recipe, setting)
    split = data.place(work.images, work.device, work.recipe.crop_padding, memory_format(runtime))
    intervals = Intervals(work.device)

    def batches(epoch: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = data.plan_epoch(len(split), work.recipe, 0, epoch)
        return data.train_batches(split, plan, work.recipe, CIFAR, step)

    with as_the_engine(work):
        watch = loop.Stopwatch(training, work.device)
        given = {"num_images": len(split), "watch": watch}
        return intervals.between(
            loop.train(training, batches, work.recipe, setting, **given), len(split)
        )


def chosen_runtime(work: Work, num_steps: int) -> str:
    given = choose_runtime.Work(
        work.build().to(work.device),
        work.recipe,
        work.recipe.batch_size,
        image_size=32,
        num_classes=10,
        device=work.device,
        precision=work.precision,
    )
    with as_the_engine(work):
        return choose_runtime.choose(given, num_steps)[0]


def compare(benchmark: BenchmarkFixture, work: Work, runtime: str, wanted: float) -> None:
    """Hold how many times as fast the engine is to what is wanted; both are in the figures.

    Each trains twice, the plain loop first and last, so that a machine that drifts favours none,
    and in processes whose memory is as Python starts with it.
    """
    numerics.prepare(work.device)
    plain_s = plain_steps_s(work) if benchmark.disabled else in_fresh_process(plain_steps_s, work)
    fast_s = benchmark.pedantic(fast_steps_s, [work, runtime])
    if not benchmark.disabled:
        fast_s += fast_steps_s(work, runtime)
        plain_s += in_fresh_process(plain_steps_s, work)
    plain, fast = median(plain_s), median(fast_s)
    images = work.recipe.batch_size
    benchmark.extra_info.update(
        runtime=runtime,
        fast_img_per_s=images / fast,
        plain_img_per_s=images / plain,
        ratio=plain / fast,
        wanted=f"ratio ≥ {wanted:g}",
    )
    if not benchmark.disabled:
        assert plain / fast >= wanted


def test_se_resnet50_with_the_cifar_stem_trains_twice_as_fast(
    benchmark: BenchmarkFixture,
) -> None:
    """Compiled for channels last, at batch 128 on the CPU, against the plain loop."""
    given = work(benchmark, "se_resnet50", "cifar", num_steps=4)
    runtime = "eager" if benchmark.disabled else "compile_channels_last"
    compare(benchmark, given, runtime, wanted=2.0)


@pytest.mark.parametrize("name", ["se_resnet50", "resnet50", "resnet101"])
def test_small_maps_train_faster_as_products(benchmark: BenchmarkFixture, name: str) -> None:
    """The three models with the ImageNet stem at 32×32, uncompiled, in fp32."""
    given = work(benchmark, name, "imagenet", num_steps=8)
    compare(benchmark, given, "channels_last_matmul", wanted=1.4)


@pytest.mark.parametrize(("name", "stem"), [("resnet50", "cifar"), ("resnet18", "imagenet")])
def test_no_other_model_trains_slower(benchmark: BenchmarkFixture, name: str, stem: str) -> None:
    """In the runtime that ``auto`` chooses for a run too short to compile."""
    given = work(benchmark, name, stem, num_steps=4 if stem == "cifar" else 12)
    chosen = "eager" if benchmark.disabled else chosen_runtime(given, STEPS_OF_A_LONG_RUN)
    compare(benchmark, given, chosen, wanted=1.0)


class Trivial(nn.Module):
    """Next to nothing to compute: (B, 3, 32, 32) -> (B, 10), with a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.classify = nn.BatchNorm2d(3), nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.norm(images[:, :, ::8, ::8]).mean((2, 3)))
        return logits


def bare_step_s(work: Work, num_steps: int) -> float:
    """Time forward, backward and update on one batch that is there already."""
    model = work.build().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    images, labels = torch.randn(work.recipe.batch_size, 3, 32, 32), work.images.labels
    intervals = Intervals(work.device)
    for _ in range(num_steps):
        nn.functional.cross_entropy(model(images), labels[: len(images)]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        intervals.note()
    return median(intervals.seconds())


def test_the_engine_adds_little_to_the_bare_step(benchmark: BenchmarkFixture) -> None:
    """What it adds to a trivial model's step is within 2 % of a step of ResNet-50."""
    resnet50 = work(benchmark, "resnet50", "imagenet", num_steps=6)
    many = work(benchmark, "resnet50", "imagenet", num_steps=100)
    trivial = Work(Trivial, many.images, many.recipe)
    numerics.prepare("cpu")
    fast = median(benchmark.pedantic(fast_steps_s, [trivial, "channels_last"]))
    added = fast - bare_step_s(trivial, 100)
    share = added / bare_step_s(resnet50, 6)
    benchmark.extra_info.update(added_ms=1e3 * added, share=share, wanted=f"share ≤ {OVERHEAD:g}")
    if not benchmark.disabled:
        assert share <= OVERHEAD


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "stem"),
    [("se_resnet50", "cifar"), ("resnet50", "imagenet"), ("resnet101", "imagenet")],
)
def test_each_model_of_the_comparison_trains_three_times_as_fast_on_a_gpu(
    benchmark: BenchmarkFixture, name: str, stem: str
) -> None:
    """In bf16, in the runtime that ``auto`` chooses for 100 epochs, against the plain loop."""
    given = work(benchmark, name, stem, num_steps=40, device="cuda:0", precision="bf16")
    compare(benchmark, given, chosen_runtime(given, 39_100), wanted=3.0)
