"""``torchvision:NAME``: the classifiers of torchvision as it builds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from bench.compute.sources.source import PRETRAINED, Source, Wanted, library, unknown_name
from bench.errors import UserError
from bench.spec.preprocessing import Preprocessing


def torchvision() -> Source:
    """Return torchvision's classifiers; ``torchvision:resnet50`` is not ours, but equal to it."""
    return Source(
        build=_build,
        origin=_origin,
        names=_names,
        preprocessing=_preprocessing,
        input_size=_input_size,
    )


def _names() -> Iterable[str]:
    from torchvision import models

    return map(str, models.list_models(module=models))


def _origin(name: str) -> dict[str, str]:
    _builder(name)
    return library("torchvision")


def _input_size(name: str) -> int | None:
    _builder(name)
    (crop_size,) = _weights(name, None).transforms().crop_size
    return int(crop_size)


def _builder(name: str) -> Any:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown_name("torchvision", name, _names())
    return models.get_model_builder(name)


def _build(name: str, wanted: Wanted) -> nn.Module:
    builder = _builder(name)
    if wanted.in_channels != 3:
        raise UserError(f"torchvision:{name} takes images of 3 channels alone")
    given: dict[str, Any] = {"weights": None, "num_classes": wanted.num_classes}
    if name.startswith("vit_"):
        given["image_size"] = wanted.image_size
    if name in ("googlenet", "inception_v3"):
        # Their second classifiers are a way to train, and drawing their weights takes minutes.
        given |= {"aux_logits": False, "init_weights": False}
    if wanted.weights is not None:
        weights = _weights(name, wanted.weights)
        _check_classes(name, weights, wanted.num_classes)
        given = {"weights": weights}
    model: nn.Module = builder(**given | dict(wanted.arguments))
    return model


def _weights(name: str, which: str | None) -> Any:
    from torchvision import models

    known = models.get_model_weights(name)
    if which in (None, PRETRAINED):
        return known.DEFAULT
    if which not in known.__members__:
        raise UserError(
            f"torchvision:{name} has no weights {which!r}; it has: {', '.join(known.__members__)}"
        )
    return known[which]


def _check_classes(name: str, weights: Any, num_classes: int) -> None:
    known = len(weights.meta["categories"])
    if known != num_classes:
        raise UserError(
            f"torchvision:{name} was trained for {known} classes, and {num_classes} are wanted"
        )


def _preprocessing(name: str, wanted: Wanted) -> Preprocessing | None:
    _builder(name)
    found = _weights(name, wanted.weights).transforms()
    (resize_size,), (crop_size,) = found.resize_size, found.crop_size
    return Preprocessing(
        resize_size=round(resize_size * wanted.image_size / crop_size),
        interpolation=found.interpolation.value,
        mean=tuple(found.mean),
        std=tuple(found.std),
    )
