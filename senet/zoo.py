"""The models by name: our SE-ResNets, and the classical ResNets as torchvision has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import resnet as torchvision_resnet

from senet.errors import ModelError, positive_int, unknown
from senet.layers import STEMS, cifar_conv, init_conv
from senet.resnet import SEBasicBlock, SEBottleneck, SEResNet

Builder = Callable[..., nn.Module]


@dataclass(frozen=True)
class Architecture:
    """What tells one model of the zoo from another, apart from its weights.

    The last three describe the SE blocks and are ``None`` for models without them.
    """

    name: str
    stem: str
    num_classes: int
    reduction: int | None = None
    se_bias: bool | None = None
    se_divisor: int | None = None

    def __str__(self) -> str:
        text = f"{self.name} ({self.stem} stem, {self.num_classes} classes"
        if self.reduction is None:
            return text + ")"
        divisor = "" if self.se_divisor in (None, 1) else f", hidden width in {self.se_divisor}s"
        bias = "with" if self.se_bias else "without"
        return f"{text}, reduction {self.reduction}, SE {bias} bias{divisor})"


def classical(builder: Builder, *, stem: str, num_classes: int) -> nn.Module:
    """Return torchvision's untrained ResNet, its stem exchanged where ``stem`` is ``cifar``."""
    model = builder(weights=None, num_classes=num_classes)
    if stem == "cifar":
        model.conv1 = cifar_conv()
        init_conv(model.conv1)
        model.maxpool = nn.Identity()
    return model


# A new model is one line here. Builders take stem and num_classes; SE builders also reduction,
# se_bias and se_divisor.
SE_MODELS: dict[str, Builder] = {
    "se_resnet18": partial(SEResNet, SEBasicBlock, (2, 2, 2, 2)),
    "se_resnet34": partial(SEResNet, SEBasicBlock, (3, 4, 6, 3)),
    "se_resnet50": partial(SEResNet, SEBottleneck, (3, 4, 6, 3)),
    "se_resnet101": partial(SEResNet, SEBottleneck, (3, 4, 23, 3)),
    "se_resnet152": partial(SEResNet, SEBottleneck, (3, 8, 36, 3)),
}
PLAIN_MODELS: dict[str, Builder] = {
    "resnet18": partial(classical, torchvision_resnet.resnet18),
    "resnet34": partial(classical, torchvision_resnet.resnet34),
    "resnet50": partial(classical, torchvision_resnet.resnet50),
    "resnet101": partial(classical, torchvision_resnet.resnet101),
    "resnet152": partial(classical, torchvision_resnet.resnet152),
}
MODELS: dict[str, Builder] = SE_MODELS | PLAIN_MODELS


def is_se(name: str) -> bool:
    """Say whether the named model has SE blocks; ModelError for a name that is unknown."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return name in SE_MODELS


def build(
    name: str,
    *,
    stem: str = "imagenet",
    num_classes: int = 10,
    reduction: int | None = None,
    se_bias: bool | None = None,
    se_divisor: int | None = None,
) -> nn.Module:
    """Return the named model, untrained: (B, 3, H, W) -> logits (B, num_classes).

    ``stem`` is ``cifar`` (3×3, stride 1) or ``imagenet`` (7×7, stride 2, max-pool). The SE options
    are ``reduction`` (16 by default), ``se_bias`` (the FC layers have one by default) and
    ``se_divisor`` (1 by default; 8 is timm's rounding of the hidden width, which differs from the
    paper's in the first stage of depths 18 and 34). Weights are drawn from torch's default
    generator. ModelError for unknown names, and for options that are out of range or not the
    model's.
    """
    arch = resolve(name, stem, num_classes, reduction, se_bias, se_divisor)
    options: dict[str, Any] = {"stem": arch.stem, "num_classes": arch.num_classes}
    if is_se(name):
        options |= {
            "reduction": arch.reduction,
            "se_bias": arch.se_bias,
            "se_divisor": arch.se_divisor,
        }
    model = MODELS[name](**options)
    model.architecture = arch  # type: ignore[assignment]  # nn.Module types its attributes as modules
    return model


def resolve(
    name: str,
    stem: str = "imagenet",
    num_classes: int = 10,
    reduction: int | None = None,
    se_bias: bool | None = None,
    se_divisor: int | None = None,
) -> Architecture:
    """Return the architecture that `build` would build, its defaults filled in; ModelError."""
    se = is_se(name)
    if stem not in STEMS:
        raise unknown("stem", stem, STEMS)
    positive_int("num_classes", num_classes)
    if not se:
        _refuse_se_options(name, reduction=reduction, se_bias=se_bias, se_divisor=se_divisor)
        return Architecture(name, stem, num_classes)
    return Architecture(
        name,
        stem,
        num_classes,
        16 if reduction is None else positive_int("reduction", reduction),
        True if se_bias is None else _boolean("se_bias", se_bias),
        1 if se_divisor is None else positive_int("se_divisor", se_divisor),
    )


def _boolean(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{what} must be True or False, not {value!r}")
    return value


def _refuse_se_options(name: str, **options: object) -> None:
    for option, value in options.items():
        if value is not None:
            raise ModelError(
                f"{name} has no SE block, so {option} does not apply; "
                f"models that have one: {', '.join(SE_MODELS)}"
            )


def describe(model: nn.Module) -> Architecture | None:
    """Return the architecture of a model that `build` made; None for a model from elsewhere."""
    found = getattr(model, "architecture", None)
    return found if isinstance(found, Architecture) else None
