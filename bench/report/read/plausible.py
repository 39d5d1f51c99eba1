"""Refuse records whose numbers contradict each other, however well formed they are."""

from __future__ import annotations

import math

from bench.errors import UserError
from bench.record.deployment import DeploymentAccuracy
from bench.record.profile import ProfileRecord
from bench.record.run import Accuracy, RunRecord
from bench.stats.hits import unpack

# No clock resolves less and no block lasts longer than a month.
SHORTEST_S, LONGEST_S = 1e-12, 2.7e6
SHORTEST_EPOCH_S = 1e-6
LARGEST = 1e40  # more than any single-precision number, and its square is still one
MAY_BE_NEGATIVE = {"block_s", "pixel_mean", "lr"}  # a clock that runs back is flagged


def contradiction(record: RunRecord | ProfileRecord) -> str | None:
    """Return in words what is impossible in a record, or None."""
    if problem := _in_numbers(record.model_dump(), ""):
        return problem
    if isinstance(record, ProfileRecord):
        return _in_profile(record)
    return _in_run(record)


def _in_numbers(value: object, name: str) -> str | None:
    """Return which number below ``value`` no measurement gives, whatever it is one of."""
    if isinstance(value, dict):
        return next(filter(None, (_in_numbers(item, key) for key, item in value.items())), None)
    if isinstance(value, list | tuple):
        return next(filter(None, (_in_numbers(item, name) for item in value)), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if abs(value) > LARGEST:
        return f"{name} is {value:g}" if abs(value) < 1e300 else f"{name} is out of all bounds"
    if value < 0 and name not in MAY_BE_NEGATIVE:
        return f"{name} is {value:g}"
    return None


def _in_run(record: RunRecord) -> str | None:
    if record.params <= 0:
        return f"params is {record.params}"
    if record.spec.model.num_classes != len(record.dataset.classes):
        return f"{record.spec.model.num_classes} outputs for {len(record.dataset.classes)} classes"
    numbers = [epoch.epoch for epoch in record.epochs]
    in_order = numbers == [*range(1, len(numbers) + 1)]
    is_whole = in_order and len(numbers) == record.spec.recipe.epochs
    if not is_whole and (record.spec.train or numbers):
        shown = ", ".join(map(str, numbers[:6])) or "by nothing"
        return f"its epochs are numbered {shown} of {record.spec.recipe.epochs}"
    for epoch in record.epochs:
        if 0 < epoch.epoch_wall_s < SHORTEST_EPOCH_S:
            return f"epoch {epoch.epoch} took {epoch.epoch_wall_s:g} s"
        timed = 0 <= epoch.epoch_wall_s <= LONGEST_S and 0 <= epoch.throughput < 1e12
        if not timed or not 0 <= epoch.top1 <= 1:
            return f"epoch {epoch.epoch} has an impossible time or an accuracy outside 0 to 1"
    if record.test is None:
        return "finished without a test accuracy"
    if problem := _in_accuracy(record.test):
        return problem
    if record.test.num_images != record.dataset.num_test:
        return f"tested on {record.test.num_images} of {record.dataset.num_test} test images"
    return None


def _in_accuracy(test: Accuracy) -> str | None:
    top5 = test.top1_correct if test.top5_correct is None else test.top5_correct
    if not 0 <= test.top1_correct <= top5 <= test.num_images or test.num_images == 0:
        return (
            f"{test.top1_correct} right at first and {top5} among five of {test.num_images} "
            "test images"
        )
    if not math.isclose(test.top1, test.top1_correct / test.num_images, abs_tol=1e-6):
        return f"top1 {test.top1} is not {test.top1_correct} of {test.num_images}"
    if test.top5 is not None and not math.isclose(test.top5, top5 / test.num_images, abs_tol=1e-6):
        return f"top5 {test.top5} is not {top5} of {test.num_images}"
    return None


def _in_deployment(found: DeploymentAccuracy) -> str | None:
    """Return what is impossible in a deployment's accuracy; its hits have to be those it counts."""
    top5 = found.top1_correct if found.top5_correct is None else found.top5_correct
    if not found.top1_correct <= top5 <= found.num_images or found.changed > found.num_images:
        return f"{found.top1_correct}, {top5} and {found.changed} of {found.num_images} test images"
    try:
        hits = unpack(found.hits, found.num_images)
        unpack(found.reference_hits, found.num_images)
    except UserError as error:
        return str(error)
    if int(hits.sum()) != found.top1_correct:
        return f"{int(hits.sum())} hits are marked, {found.top1_correct} counted"
    if not 0 <= found.seconds <= LONGEST_S or not found.logit_error >= 0:
        return f"an accuracy in {found.seconds} s, logits off by {found.logit_error}"
    return None


def _in_profile(record: ProfileRecord) -> str | None:
    cost, timing = record.cost, record.timing
    if cost.params <= 0 or cost.macs <= 0 or cost.flops != 2 * cost.macs:
        return f"params {cost.params}, macs {cost.macs}, flops {cost.flops}"
    if record.accuracy is not None and (problem := _in_deployment(record.accuracy)):
        return problem
    if timing is None:
        untimed = record.status == "ok" and record.server is None
        return "status ok without a timing" if untimed else None
    if record.batch_size == 0:
        return "timed at batch size 0"
    lengths = {len(timing.block_s), len(timing.block_iters)}
    lengths |= {len(timing.block_round)} if timing.block_round else set()
    if len(lengths) != 1 or min(timing.block_iters, default=0) <= 0:
        return "its blocks, calls and rounds differ in number, or a block has no call"
    # Zero and negative times are a clock's failure, which the timing's own flags tell of.
    seconds = [s for s in timing.block_s if s > 0]
    if seconds and not SHORTEST_S <= min(seconds) <= max(seconds) <= LONGEST_S:
        return f"blocks of {min(seconds):g} to {max(seconds):g} s"
    return None
