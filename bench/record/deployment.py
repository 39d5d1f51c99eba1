"""What a deployment gets right, and how its int8 came about."""

from __future__ import annotations

from typing import Literal

from bench.record.run import FileFacts
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec
from bench.spec.values import Frozen, NonNegativeInt, PositiveInt, Precision, Seed


class CalibrationFacts(Frozen):
    """The images whose activations set the ranges of int8; ``digest`` is the SHA-256 of them.

    They come from the training split, drawn by ``seed``; where only the cost of an untrained model
    is asked for, and there is no data set, they are ``noise``, as the clock's inputs are.
    """

    source: Literal["training split", "noise"]
    num_images: PositiveInt
    seed: Seed
    digest: str


class QuantizationFacts(Frozen):
    """How many of the convolutions and linear layers compute in int8, read from what is run.

    ``method`` names the quantiser, its scheme and its way to find ranges.
    """

    method: str
    int8_operators: NonNegativeInt
    operators: PositiveInt
    calibration: CalibrationFacts


class ArtifactRecord(Frozen):
    """What stands beside an exported file: what it is of, how it was made, and its hash.

    It takes ``batch_size`` images, normalised by ``pixel_mean`` and ``pixel_std`` of pixels in
    [0, 1]. ``files`` are the artefact's, the one to be opened first.
    """

    kind: Literal["artifact"] = "artifact"
    schema_version: Literal[2] = 2
    created_at: str
    run_id: str
    weights_sha256: str
    model: ModelSpec
    classes: tuple[str, ...]
    data: DataSpec
    recipe: Recipe
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    runtime: str
    precision: Precision
    batch_size: PositiveInt
    files: tuple[FileFacts, ...]
    weight_bytes: int | None
    quantization: QuantizationFacts | None
    packages: dict[str, str]


class DeploymentAccuracy(Frozen):
    """The whole test set, classified by the very session that is timed, beside eager fp32.

    ``hits`` and ``reference_hits`` hold one bit an image, in the test set's order: whether the
    likeliest class is the label, in this session and in eager fp32 (see `bench.stats.hits`). From
    them comes every paired statistic. ``changed`` counts the images whose likeliest class differs
    from eager fp32's, and ``logit_error`` is the largest difference between logits over the largest
    logit. ``predictions_sha256`` is that of the likeliest classes as little-endian int16.
    ``top5_correct`` is None with five classes or fewer. ``seconds`` are those of the whole pass:
    normalising, moving to the device, classifying.
    """

    dataset: str
    digest: str
    num_images: PositiveInt
    top1_correct: NonNegativeInt
    top5_correct: NonNegativeInt | None
    predictions_sha256: str
    hits: str
    reference_hits: str
    changed: NonNegativeInt
    logit_error: float
    seconds: float

    @property
    def top1(self) -> float:
        """Return the share of the test images whose likeliest class is the label."""
        return self.top1_correct / self.num_images

    @property
    def top5(self) -> float | None:
        """Return the share whose label is among the five likeliest classes."""
        return None if self.top5_correct is None else self.top5_correct / self.num_images


class EndToEndFacts(Frozen):
    """Where the time goes between encoded images and their classes.

    ``part_s`` are the seconds of each part for ``num_images`` images, the device waited for after
    each; what that costs is not in the record's timing, which is of whole batches.
    """

    source: str
    part_s: dict[str, float]
    num_images: PositiveInt


class ServerTrial(Frozen):
    """Requests at one rate: their sample 99th percentile, and whether it is within the bound."""

    rate: float
    num_requests: PositiveInt
    p99_s: float
    within: bool


class ServerFacts(Frozen):
    """Single images that arrive at ``rate`` a second, at random, and wait for each other.

    ``latency_s`` are the seconds from arrival to class. ``highest_rate`` is the highest of the
    ``trials`` that kept the 99th percentile within ``bound_s``; None where no rate did.
    """

    rate: float
    latency_s: tuple[float, ...]
    bound_s: float
    highest_rate: float | None
    trials: tuple[ServerTrial, ...]

    def latency_ms(self, percent: int) -> float | None:
        """Return a percentile in milliseconds; the 99th from 1,000 requests on."""
        if percent >= 99 and len(self.latency_s) < 1000:
            return None
        ordered = sorted(self.latency_s)
        place = (len(ordered) - 1) * percent / 100
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return 1e3 * (ordered[below] + (place - below) * (ordered[above] - ordered[below]))
