"""What is refused before a run begins, because it could not end."""

from __future__ import annotations

from bench.compute import foreign, training_step
from bench.compute.model import build
from bench.data.holdout import num_held_out
from bench.errors import UserError
from bench.machine import numerics
from bench.spec.run import RunSpec
from bench.train import plain_loop
from bench.train.loop import FEWEST_IMAGES


def check_runnable(spec: RunSpec) -> None:
    """Raise UserError for what this machine or the run's engine cannot do."""
    if spec.train and not foreign.is_trainable(spec.model):
        raise UserError(f"{spec.model.name} was exported for inference, and cannot be trained")
    numerics.check_precision(spec.device, spec.precision, train=spec.train)
    training_step.check_runtime(spec.runtime, spec.device, spec.world_size)
    if spec.recipe.batch_size % spec.world_size:
        raise UserError(
            f"batch size {spec.recipe.batch_size} is not divisible by the {spec.world_size}"
            " processes that share it"
        )
    if spec.engine == "plain":
        plain_loop.check(spec)


def check_weights(spec: RunSpec) -> None:
    """Raise UserError, or senet's ModelError, for weights that are not of the run's model."""
    if spec.weights is not None:
        build(spec.model, weights=spec.weights)


def check_batch_size(spec: RunSpec, num_train: int) -> None:
    """Raise UserError for a batch that the training set or the processes cannot share out."""
    batch_size, world_size = spec.recipe.batch_size, spec.world_size
    num_train -= num_held_out(num_train, spec.val_split)
    fewest = FEWEST_IMAGES * world_size
    if num_train == 0:
        raise UserError(f"{spec.data.name} has no images to train on (train/<class>)")
    if batch_size > num_train:
        raise UserError(
            f"batch size {batch_size} is larger than the training set of"
            f" {num_train} images; choose {fewest} to {num_train}"
        )
    if batch_size < fewest:
        raise UserError(
            f"batch size {batch_size} is too small: BatchNorm needs {FEWEST_IMAGES} images"
            f" a process; choose {fewest} to {num_train}"
        )
