"""The columns of what a deployment gets right: the accuracy of what a row timed, and int8."""

from __future__ import annotations

from collections.abc import Callable

from bench.record.deployment import DeploymentAccuracy, QuantizationFacts
from bench.report.read.deployed import Deployment, tested_as
from bench.report.read.profiled import CostRow
from bench.report.table.column import Column, Value


def deployed(of: Callable[[Deployment], Value]) -> Callable[[CostRow], Value]:
    """Return what takes a value from a row's own accuracy; None where it was not measured."""
    return lambda row: of(Deployment(row, row.accuracy)) if row.accuracy is not None else None


def _own(of: Callable[[DeploymentAccuracy], Value]) -> Callable[[CostRow], Value]:
    return lambda row: of(row.accuracy) if row.accuracy is not None else None


def _made(of: Callable[[QuantizationFacts], Value]) -> Callable[[CostRow], Value]:
    return lambda row: of(row.first.quantization) if row.first.quantization is not None else None


ACCURACY_OF = Column(
    "accuracy_of",
    "what top1 is of; where the row's own was not measured, what was tested in its place",
    of_training=tested_as,
    of_deployment=lambda cell, row: (
        "this deployment"
        if row.accuracy is not None
        else f"{tested_as(cell)}, not this"
        if cell is not None
        else None
    ),
)
DEPLOYED_COLUMNS: tuple[Column, ...] = (
    Column(
        "top1_change",
        "top1 of what was timed minus that of eager fp32, on the same images",
        of_profile=deployed(lambda d: d.difference.interval.estimate),
    ),
    Column(
        "top1_change_low",
        "lower end of its 95 % interval",
        of_profile=deployed(lambda d: d.difference.interval.low),
    ),
    Column(
        "top1_change_high",
        "upper end of its 95 % interval",
        of_profile=deployed(lambda d: d.difference.interval.high),
    ),
    Column(
        "top1_change_p",
        "exact McNemar's p of it, not corrected for the number of rows",
        of_profile=deployed(lambda d: d.p),
    ),
    Column(
        "changed_predictions",
        "images whose likeliest class differs from eager fp32's",
        of_profile=_own(lambda a: a.changed),
    ),
    Column(
        "logit_error",
        "largest difference to eager fp32's logits on the test set, over the largest logit",
        of_profile=_own(lambda a: a.logit_error),
    ),
    Column(
        "accuracy_s",
        "seconds of classifying the whole test set",
        of_profile=_own(lambda a: a.seconds),
    ),
    Column(
        "int8_operators",
        "convolutions and linear layers that compute in int8",
        of_profile=_made(lambda q: q.int8_operators),
    ),
    Column(
        "quantizable_operators",
        "convolutions and linear layers in all",
        of_profile=_made(lambda q: q.operators),
    ),
    Column(
        "calibration_images",
        "images that int8 is calibrated on",
        of_profile=_made(lambda q: q.calibration.num_images),
    ),
    Column(
        "weight_bytes", "size of the weights on disk", of_profile=lambda r: r.first.weight_bytes
    ),
    Column(
        "server_highest_rate",
        "the highest rate of single images at random whose p99 was within the bound",
        of_profile=lambda r: r.first.server.highest_rate if r.first.server else None,
    ),
)
