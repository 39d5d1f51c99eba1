"""The record of a run: one trained, or loaded, model with its test."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, field_validator

from bench.record.environment import Environment
from bench.spec.run import RunSpec
from bench.spec.values import Frozen, NonNegativeInt

SCHEMA_VERSION: Final = 2
READABLE: Final = (1, 2)
Storage = Literal["memory", "mapped", "streamed"]


class DatasetFacts(Frozen):
    """Which images a run saw. ``digest`` is the SHA-256 of all pixels and labels.

    ``storage`` says where they were held: in memory, in a file on disk that is mapped, or nowhere,
    decoded for each batch; None in records from before there was a choice. ``num_skipped`` images
    could not be read and were passed over, as was asked for.
    """

    name: str
    label: str
    digest: str
    num_train: int
    num_test: int
    classes: tuple[str, ...]
    image_size: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    storage: Storage | None = None
    num_skipped: NonNegativeInt = 0


class EpochFacts(Frozen):
    """One epoch of training; ``epoch_wall_s`` is training alone, ``throughput`` in img/s.

    ``top1`` is that of the augmented training images while they are learnt, ``val_top1`` that of
    the held-out images after the epoch. ``skipped_steps`` are those whose fp16 gradients
    overflowed, after which the loss scale is halved; ``overflow_streak`` is how many of them came
    in a row at most.
    """

    epoch: int
    loss: float
    top1: float
    lr: float
    num_images: int
    epoch_wall_s: float
    throughput: float
    skipped_steps: int = 0
    overflow_streak: int = 0
    val_top1: float | None = None

    @property
    def told_top1(self) -> float:
        """Return the accuracy that tells most: on validation images where there are any."""
        return self.top1 if self.val_top1 is None else self.val_top1


class Accuracy(Frozen):
    """Test accuracy after the last epoch; ``top1`` and ``top5`` are fractions of ``num_images``.

    ``top5`` is ``None`` with five classes or fewer, where it would be 1 by definition.
    """

    num_images: int
    top1_correct: int
    top5_correct: int | None
    top1: float
    top5: float | None
    loss: float


class FileFacts(Frozen):
    """A file beside the record, in the same folder, and its SHA-256."""

    name: str
    sha256: str

    @field_validator("name")
    @classmethod
    def _lies_beside(cls, name: str) -> str:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
            raise ValueError(f"{name!r} is not the name of a file in the record's folder")
        return name


class ValidationFacts(Frozen):
    """The training images that were held out; ``digest`` is the SHA-256 of their indices."""

    num_images: int
    digest: str


class RuntimeTrial(Frozen):
    """What `--runtime auto` measured: img/s of each candidate, why others were not tried."""

    throughput: dict[str, float] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)


class RunRecord(Frozen):
    """One trained or loaded model: its epochs, its accuracy, its files.

    Seconds are those of reading the data (``data_s``), building the model (``build_s``), choosing
    a runtime (``trial_s``), compiling or capturing (``compile_s``), classifying the held-out
    images (``val_s``) and the test set (``eval_s``), and saving (``checkpoint_s``); none of them
    is in an epoch's. ``runtime`` is the one that was trained in. ``macs`` are those of an image
    (see `CostFacts`). ``shared_with`` are the other jobs that the machine did at the beginning, at
    the end of an epoch, or at the end; None in records that do not say.
    """

    kind: Literal["run"] = "run"
    schema_version: Literal[1, 2] = SCHEMA_VERSION
    id: str
    status: Literal["finished", "diverged"]
    reason: str | None = None
    created_at: str
    spec: RunSpec
    dataset: DatasetFacts
    environment: Environment
    params: int
    macs: int | None = None
    epochs: tuple[EpochFacts, ...]
    test: Accuracy | None
    weights: FileFacts | None
    predictions: FileFacts | None
    data_s: float
    build_s: float
    eval_s: float
    checkpoint_s: float
    warnings: tuple[str, ...] = ()
    runtime: str | None = None
    trial: RuntimeTrial | None = None
    trial_s: float = 0.0
    compile_s: float = 0.0
    val_s: float = 0.0
    validation: ValidationFacts | None = None
    target_s: float | None = None
    shared_with: tuple[str, ...] | None = None

    def with_target(self) -> RunRecord:
        """Return the record with ``target_s`` for the target of its specification."""
        target = self.spec.target_top1
        return self.model_copy(
            update={"target_s": None if target is None else self.seconds_to(target)}
        )

    def seconds_to(self, top1: float) -> float | None:
        """Return the seconds of training alone until ``val_top1`` was first so high, or None."""
        seconds = 0.0
        for epoch in self.epochs:
            seconds += epoch.epoch_wall_s
            if epoch.val_top1 is not None and epoch.val_top1 >= top1:
                return seconds
        return None
