"""Predicting a whole set, and testing a network on it, over all processes of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from bench import data
from bench.compute import distributed
from bench.compute.distributed import Group
from bench.compute.training_step import memory_format
from bench.errors import UserError
from bench.events import Emit, Evaluating
from bench.machine import device_memory, numerics
from bench.spec.run import RunSpec
from bench.train import evaluate
from bench.train.loop import Diverged

EVAL_BATCH = 500  # images of 32×32, fewer of larger ones: activations grow with their pixels
FEWEST = 32


def keeps_freed(spec: RunSpec) -> bool:
    """Tell whether freed memory is kept: not by the plain loop, which is left as people have it."""
    return spec.engine != "plain"


def _validator(
    spec: RunSpec, dataset: data.Dataset, held_out: data.Split, group: Group
) -> Callable[[nn.Module], float]:
    """Return the function that gives a model's top-1 on the images held out of training."""
    own = _own_part(held_out, group)
    normalization = data.normalization(spec.recipe, dataset, spec.data.preprocessing)
    split = data.place(own, spec.device)

    def validate(model: nn.Module) -> float:
        try:
            predictions = _together(
                spec, model, lambda size: data.test_batches(split, size, normalization), group
            )
        except evaluate.NotFinite:
            raise Diverged("the logits on the held-out images are not finite") from None
        return evaluate.score(predictions, len(dataset.classes)).top1

    return validate


def _own_part(split: data.Split, group: Group) -> data.Split:
    """Return the images that this process classifies: every image is one process' own."""
    if group.is_alone:
        return split
    return split.taken(torch.arange(len(split))[distributed.part(group, len(split))])


Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]


def _together(
    spec: RunSpec, model: nn.Module, batches: Batches, group: Group
) -> evaluate.Predictions:
    """Classify each process' own images and return all; NotFinite on all when it is on one."""
    own: evaluate.Predictions | None
    try:
        own = _classified(spec, model, batches)
    except evaluate.NotFinite:
        own = None
    parts = distributed.collect(group, own)
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise evaluate.NotFinite("the logits are not finite")
    return evaluate.join(whole)


def batch_size(image_size: int) -> int:
    """Return how many images are classified at once where there is memory for them."""
    return max(FEWEST, min(EVAL_BATCH, EVAL_BATCH * 32**2 // image_size**2))


def _classified(spec: RunSpec, model: nn.Module, batches: Batches) -> evaluate.Predictions:
    """Classify a set, in smaller batches where the device has not the memory: none depends on it.

    UserError when it has not enough for a single image.
    """
    size = batch_size(spec.model.image_size)
    while size > 0:
        try:
            return evaluate.predict(
                model, batches(size), device=spec.device, precision=spec.precision
            )
        except (RuntimeError, MemoryError) as error:
            if not device_memory.is_out_of_memory(error):
                raise
        size //= 2
    raise UserError(f"{spec.device} has not enough memory to classify a single image")


def predict(
    model: nn.Module,
    dataset: data.Dataset,
    spec: RunSpec,
    emit: Emit,
    group: Group = distributed.ALONE,
) -> evaluate.Predictions:
    """Classify the test set, unaugmented and in order, as the recipe normalises it.

    Raises `evaluate.NotFinite` when a logit is not finite: there is nothing to rank.
    """
    layout = memory_format(spec.runtime)
    split = data.place(_own_part(dataset.test, group), spec.device, memory_format=layout)
    normalization = data.normalization(spec.recipe, dataset, spec.data.preprocessing)

    def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return _counted(data.test_batches(split, size, normalization), len(split), emit)

    memory = device_memory.keeping_freed(spec.device, wanted=keeps_freed(spec))
    with numerics.computing_in(spec.device, spec.precision), memory:
        return _together(spec, model, batches, group)


def _counted(
    batches: Iterable[tuple[Tensor, Tensor]], total: int, emit: Emit
) -> Iterator[tuple[Tensor, Tensor]]:
    done = 0
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        emit(Evaluating(done, total))
