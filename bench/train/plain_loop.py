"""The plain loop: how training is usually written, kept to compare the fast engine with.

torchvision's transforms in a DataLoader with two workers, fp32, operator after operator, and
``.item()`` in every step. It is left as it is on purpose, do not speed it up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.compute.training_state import Training
from bench.data import Normalization, Split
from bench.errors import UserError
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.run import RunSpec
from bench.train.loop import Diverged, count_steps, learning_rate, set_learning_rate

NUM_WORKERS = 2
_NOT_PLAIN = ("cutout_size", "random_erasing_prob", "mixup_alpha", "grad_clip", "ema_decay")


def check(spec: RunSpec) -> None:
    """Raise UserError for what the plain loop does not do."""
    wanted = {"precision": "fp32", "runtime": "eager", "world_size": 1}
    for name, plain in wanted.items():
        if getattr(spec, name) != plain:
            raise UserError(f"engine plain trains with {name} {plain} only; choose engine fast")
    for name in _NOT_PLAIN:
        if getattr(spec.recipe, name):
            raise UserError(f"engine plain has no {name}; choose engine fast")


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Images one by one, as torchvision's data sets give them: PIL, transformed, with a label."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        images = split.images  # what is not in memory is read image by image, as from files
        if isinstance(images, Tensor):
            images = images.contiguous(memory_format=torch.channels_last)
        self.images = images
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index : index + 1][0].permute(1, 2, 0).numpy()
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return self.transform(image), self.labels[index]


def make_transform(
    recipe: Recipe, normalization: Normalization, image_size: int
) -> transforms.Compose:
    """Return the recipe's augmentation and normalisation as torchvision's transforms."""
    return transforms.Compose(
        [
            *(
                [transforms.RandomCrop(image_size, recipe.crop_padding)]
                if recipe.crop_padding
                else ()
            ),
            *([transforms.RandomHorizontalFlip()] if recipe.flip else ()),
            transforms.ToTensor(),
            transforms.Normalize(normalization.mean, normalization.std),
        ]
    )


def start(model: nn.Module, recipe: Recipe, device: str) -> Training:
    """Return a training of ``model``, which lies on ``device``, with torch's SGD as it comes."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Training(model, optimizer, scaler, totals=torch.zeros(3, device=device))


def train(
    training: Training,
    split: Split,
    recipe: Recipe,
    normalization: Normalization,
    *,
    seed: int,
    device: str,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[EpochFacts | None]:
    """Train from the last finished epoch to the recipe's last, as `bench.train.loop.train` does.

    Yields None after each step and an epoch's facts after its last. Images and labels lie in host
    memory. Raises `Diverged` when an epoch's mean loss is not finite.
    """
    transform = make_transform(recipe, normalization, split.images.shape[-1])
    generator = torch.Generator()
    loader = DataLoader(
        PlainImages(split, transform),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=NUM_WORKERS,
        drop_last=recipe.drop_last,
        generator=generator,
    )
    num_steps = count_steps(len(split), recipe)
    while training.epoch < recipe.epochs:
        generator.manual_seed(1_000_003 * seed + training.epoch)
        training.step = 0
        facts = yield from _epoch(training, loader, recipe, num_steps, device, clock)
        training.epoch, training.step = facts.epoch, 0
        yield facts


def _epoch(
    training: Training,
    loader: DataLoader[tuple[Tensor, int]],
    recipe: Recipe,
    num_steps: int,
    device: str,
    clock: Callable[[], float],
) -> Generator[None, None, EpochFacts]:
    model, optimizer = training.model, training.optimizer
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    running_loss, correct, total = 0.0, 0, 0
    model.train()
    begin = clock()
    for inputs, labels in islice(loader, num_steps):
        rate = learning_rate(recipe, training.epoch, training.step, num_steps)
        set_learning_rate(optimizer, rate)
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * labels.size(0)
        total += labels.size(0)
        correct += outputs.argmax(1).eq(labels).sum().item()
        training.step += 1
        yield
    wall_s = clock() - begin
    if not math.isfinite(running_loss):
        raise Diverged(f"the training loss is {running_loss} in epoch {training.epoch + 1}")
    return EpochFacts(
        epoch=training.epoch + 1,
        loss=running_loss / total,
        top1=correct / total,
        lr=rate,
        num_images=total,
        epoch_wall_s=wall_s,
        throughput=total / wall_s if wall_s > 0 else 0.0,
    )
