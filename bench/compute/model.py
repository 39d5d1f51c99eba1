"""A model by its identity: named, sized for a data set, built, its weights known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

import senet
from bench import data
from bench.errors import UserError, unknown
from bench.record.files import sha256
from bench.spec.run import ModelSpec
from bench.spec.values import validated
from senet.weights import PRETRAINED_PREFIX


def identify(
    name: str,
    dataset: data.Dataset | None = None,
    *,
    stem: str = "imagenet",
    num_classes: int = 10,
    image_size: int = 32,
    reduction: int | None = None,
    se_bias: bool | None = None,
    se_divisor: int | None = None,
    beside: Iterable[str] = (),
) -> ModelSpec:
    """Return the identity of a model, sized for ``dataset`` where one is given.

    An SE model gets its defaults written out (reduction 16, FC with bias); an unknown name fails
    by listing the known ones. ``beside`` names the models that the options are given for: where
    one of them has SE blocks the SE options are meant for it, and a plain model does without.
    """
    if name not in senet.MODELS:
        raise unknown("model", name, senet.MODELS)
    if dataset is not None:
        num_classes, image_size = len(dataset.classes), dataset.train.images.shape[-1]
    if senet.is_se(name):
        reduction = 16 if reduction is None else reduction
        se_bias = True if se_bias is None else se_bias
        se_divisor = None if se_divisor == 1 else se_divisor
    elif any(map(senet.is_se, beside)):
        reduction = se_bias = se_divisor = None
    elif (reduction, se_bias, se_divisor) != (None, None, None):
        raise UserError(f"{name} has no SE block: --reduction and other SE options do not apply")
    return validated(
        ModelSpec,
        {
            "name": name,
            "stem": stem,
            "num_classes": num_classes,
            "image_size": image_size,
            "reduction": reduction,
            "se_bias": se_bias,
            "se_divisor": se_divisor,
        },
    )


def build(model: ModelSpec, *, seed: int = 0, weights: str | None = None) -> nn.Module:
    """Return the model on the CPU, initialised from ``seed`` alone, or loaded from ``weights``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = senet.build(
            model.name,
            stem=model.stem,
            num_classes=model.num_classes,
            reduction=model.reduction,
            se_bias=model.se_bias,
            se_divisor=model.se_divisor,
        )
    if weights is not None:
        senet.load_weights(network, weights)
    return network


def is_pretrained_name(weights: str) -> bool:
    """Say whether ``weights`` names torchvision's, to be downloaded, rather than a file."""
    return weights.startswith(PRETRAINED_PREFIX)


def weights_facts(weights: str | None) -> dict[str, str]:
    """Return the fields of a RunSpec that say which weights a model starts from."""
    if weights is None:
        return {}
    if is_pretrained_name(weights):
        return {"weights": weights, "weights_sha256": weights}
    if not Path(weights).is_file():
        raise UserError(f"weights file {weights} does not exist")
    return {"weights": weights, "weights_sha256": sha256(Path(weights))}


def num_params(model: nn.Module) -> int:
    """Return how many trainable numbers a model has."""
    return sum(p.numel() for p in model.parameters())
