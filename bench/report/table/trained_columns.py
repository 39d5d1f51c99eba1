"""The columns of a model, of what it was trained on and how, and of how accurate it is."""

from __future__ import annotations

from collections.abc import Callable

from bench.report.derive.published import Beside, beside
from bench.report.read.deployed import Deployment
from bench.report.read.models import (
    arguments_text,
    attention_text,
    depth,
    has_se,
    library_text,
    preprocessing_text,
    rounding,
    width,
)
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell, Measured
from bench.report.table.column import Column, Value
from bench.report.table.deployed_columns import ACCURACY_OF, deployed

# Seconds of a run beside its epochs, as its record names them.
SECONDS: dict[str, str] = {
    "data_s": "seconds to get the data set ready, mean over seeds, as are the next six",
    "build_s": "seconds to build the model or load its weights",
    "trial_s": "seconds to try runtimes",
    "compile_s": "seconds to compile or capture",
    "val_s": "seconds of validation",
    "checkpoint_s": "seconds of saving",
    "eval_s": "seconds of the test",
}


def _ece(cell: Cell) -> Value:
    said = [run.predictions.ece for run in cell.runs if run.predictions is not None]
    return sum(said) / len(said) if said else None


def _test_loss(cell: Cell) -> Value:
    losses = [test.loss for test in cell.tests]
    return sum(losses) / len(losses) if losses else None


def _published(told: Callable[[Beside], Value]) -> Callable[[Cell], Value]:
    """Return what tells of the published figure with the fewest reasons against it."""

    def of_training(cell: Cell) -> Value:
        figures = beside(cell)
        return told(figures[0]) if figures else None

    return of_training


def _seconds(name: str) -> Callable[[Cell], Value]:
    return lambda cell: cell.seconds(name)


def _accuracy(
    name: str,
    definition: str,
    measured: Callable[[Cell], Measured | None],
    of_row: Callable[[Deployment], Measured | None],
) -> list[Column]:
    """Return the columns of an accuracy and of the ends of its interval.

    ``of_row`` takes the accuracy of what a row timed, where that is not what the run tested.
    """

    def part(of: Callable[[Measured], Value]) -> Callable[[Cell], Value]:
        return lambda cell: of(found) if (found := measured(cell)) is not None else None

    def own(of: Callable[[Measured], Value]) -> Callable[[Cell | None, CostRow], Value]:
        def value(one: Deployment) -> Value:
            return of(found) if (found := of_row(one)) is not None else None

        return lambda cell, row: deployed(value)(row)

    parts: dict[str, tuple[str, Callable[[Measured], Value]]] = {
        name: (definition, lambda m: m.value),
        f"{name}_low": (
            "lower end of its 95 % interval for the sampling of images alone (Wilson)",
            lambda m: m.low,
        ),
        f"{name}_high": ("upper end of the same", lambda m: m.high),
    }
    return [
        Column(key, said, of_training=part(of), of_deployment=own(of))
        for key, (said, of) in parts.items()
    ]


def _nothing(cell: Cell | None, row: CostRow) -> Value:
    """Return None: it is known of what was tested alone."""
    return None


MODEL_COLUMNS: tuple[Column, ...] = (
    Column("model", "name of the model", of_model=lambda m: m.name),
    Column(
        "stem",
        "cifar (3×3, stride 1) or imagenet (7×7, stride 2, max-pool)",
        of_model=lambda m: m.stem,
    ),
    Column("se", "whether the model has squeeze-and-excitation blocks", of_model=has_se),
    Column("depth", "number of layers that the model is named after", of_model=depth),
    Column("width", "factor on the channels of the network's family", of_model=width),
    Column("reduction", "the SE block's reduction ratio r", of_model=lambda m: m.reduction),
    Column(
        "se_bias",
        "whether the SE block's fully connected layers have a bias",
        of_model=lambda m: m.se.bias if m.se else None,
    ),
    Column(
        "se_divisor",
        "of what the SE block's hidden width is a multiple, where it is rounded",
        of_model=rounding,
    ),
    Column(
        "attention",
        "the attention of our networks: its kind, and what is not the kind's default",
        of_model=attention_text,
    ),
    Column("arguments", "what else the model was built with", of_model=arguments_text),
    Column(
        "library",
        "the library and its version, the hub's revision or the file's hash of a foreign model",
        of_model=library_text,
    ),
    Column(
        "architecture",
        "hash of the names and shapes of a foreign model's state",
        of_model=lambda m: m.origin.architecture if m.origin else None,
    ),
    Column("num_classes", "number of classes", of_model=lambda m: m.num_classes),
    Column("image_size", "side of the square input in pixels", of_model=lambda m: m.image_size),
)
TRAINED_COLUMNS: tuple[Column, ...] = (
    Column(
        "dataset",
        "label of the data set that the model was trained and tested on",
        of_training=lambda c: c.dataset,
    ),
    Column(
        "dataset_digest",
        "first 12 hex digits of the SHA-256 of all its pixels and labels",
        of_training=lambda c: c.digest[:12],
    ),
    Column(
        "num_train", "number of training images", of_training=lambda c: c.record.dataset.num_train
    ),
    Column("num_test", "number of test images", of_training=lambda c: c.record.dataset.num_test),
    Column(
        "preprocessing",
        "how images were resized, cropped and normalised for published weights of the model",
        of_training=lambda c: preprocessing_text(c.model, c.record.spec.data.preprocessing),
    ),
    Column("recipe", "name of the training recipe", of_training=lambda c: c.recipe.name),
    Column("epochs", "epochs trained", of_training=lambda c: c.recipe.epochs),
    Column(
        "train_batch_size", "images per training step", of_training=lambda c: c.recipe.batch_size
    ),
    Column(
        "train_precision",
        "precision of the training",
        of_training=lambda c: c.record.spec.precision,
    ),
    Column(
        "train_runtime",
        "runtime of the training; for auto the one it chose",
        of_training=lambda c: c.runtime,
    ),
    Column(
        "train_engine",
        "fast, or plain for the usual loop",
        of_training=lambda c: c.record.spec.engine,
    ),
    Column(
        "val_split",
        "share of the training images held out for validation",
        of_training=lambda c: c.record.spec.val_split,
    ),
    Column(
        "train_device",
        "device that the model was trained on",
        of_training=lambda c: c.environment.device,
    ),
    Column(
        "seeds",
        "number of runs that differ in the seed alone; the values are their means",
        of_training=lambda c: len(c.runs),
    ),
    *_accuracy(
        "top1",
        "fraction of test images whose first prediction is right, last epoch",
        lambda c: c.top1,
        lambda d: d.top1,
    ),
    ACCURACY_OF,
    Column(
        "top1_seed_sd",
        "standard deviation of top1 over the seeds",
        of_training=lambda c: c.seed_sd,
        of_deployment=_nothing,
    ),
    Column(
        "top1_seeds_low",
        "lower end of Student's 95 % interval of the mean over seeds",
        of_training=lambda c: c.top1_over_seeds.low if c.top1_over_seeds else None,
        of_deployment=_nothing,
    ),
    Column(
        "top1_seeds_high",
        "upper end of the same",
        of_training=lambda c: c.top1_over_seeds.high if c.top1_over_seeds else None,
        of_deployment=_nothing,
    ),
    Column(
        "last_epoch_gain",
        "fraction by which the last epoch raised top-1 of the validation images, of the training "
        "images where there are none; of the seed it raised most",
        of_training=lambda c: c.last_epoch_gain,
    ),
    *_accuracy(
        "top5",
        "fraction of test images with the label among the five best predictions",
        lambda c: c.top5,
        lambda d: d.top5,
    ),
    Column(
        "ece",
        "expected calibration error over 15 bins, mean over seeds",
        of_training=_ece,
        of_deployment=_nothing,
    ),
    Column(
        "published_top1",
        "a published top-1 of this model on this data set or a copy of it",
        of_training=_published(lambda b: b.published.top1),
        of_deployment=_nothing,
    ),
    Column(
        "published_source",
        "who published it",
        of_training=_published(lambda b: b.published.source.name),
        of_deployment=_nothing,
    ),
    Column(
        "published_how",
        "its epochs, its number of trainings, and which epoch was tested",
        of_training=_published(lambda b: b.published.told),
        of_deployment=_nothing,
    ),
    Column(
        "published_comparable",
        "yes, or why it may not stand beside top1",
        of_training=_published(lambda b: "; ".join(b.why_not) or "yes"),
        of_deployment=_nothing,
    ),
    Column(
        "test_loss",
        "mean cross-entropy on the test images",
        of_training=_test_loss,
        of_deployment=_nothing,
    ),
    Column(
        "epoch_wall_s",
        "seconds of one training epoch, training alone: median over epochs and seeds",
        of_training=lambda c: c.epoch_wall_s,
    ),
    Column(
        "train_s",
        "seconds of all training epochs: mean over seeds",
        of_training=lambda c: c.train_s.value if c.train_s else None,
    ),
    Column(
        "train_throughput",
        "img/s while training: median over epochs and seeds",
        of_training=lambda c: c.train_throughput,
    ),
    Column(
        "target_top1",
        "validation top-1 to be reached",
        of_training=lambda c: c.record.spec.target_top1,
    ),
    Column(
        "target_s",
        "seconds of training until it was, mean over the seeds that reached it",
        of_training=_seconds("target_s"),
    ),
    *(Column(name, what, of_training=_seconds(name)) for name, what in SECONDS.items()),
)
