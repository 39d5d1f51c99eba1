"""The test set on which the sessions of a profile are tested."""

from __future__ import annotations

from collections.abc import Iterable

from bench.data import Dataset, normalization
from bench.errors import UserError
from bench.events import Emit
from bench.execute.train_run import load_data
from bench.measure.accuracy import TestSet
from bench.spec.run import ModelSpec
from bench.spec.test_set import TestSpec


def load_test_set(spec: TestSpec, models: Iterable[ModelSpec], emit: Emit) -> TestSet:
    """Return the test set; UserError where it is missing or the models are not made for it."""
    dataset, _ = load_data(spec.data, emit)
    for model in models:
        check_fits(model, dataset, spec.classes)
    return TestSet(dataset, normalization(spec.recipe, dataset, spec.data.preprocessing))


def check_fits(model: ModelSpec, dataset: Dataset, classes: tuple[str, ...] | None) -> None:
    """Raise UserError for a data set with other classes or image sizes than the model's."""
    if len(dataset.classes) != model.num_classes:
        raise UserError(
            f"{dataset.label} has {len(dataset.classes)} classes, the weights have"
            f" {model.num_classes}"
        )
    if classes is not None and dataset.classes != classes:
        raise UserError(
            f"{dataset.label} has other classes than those the weights were trained for"
        )
    if dataset.image_size != model.image_size:
        raise UserError(
            f"the images of {dataset.label} are {dataset.image_size}×{dataset.image_size}, the"
            f" model is made ready for {model.image_size}×{model.image_size}"
        )
