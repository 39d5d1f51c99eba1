"""The models by name: residual networks with attention or without, and torchvision's ResNets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn
from torchvision.models import resnet as torchvision_resnet

from senet import architecture
from senet.architecture import Architecture
from senet.attention import NONE, Attention
from senet.catalogue import NETWORKS, facts, is_known
from senet.errors import ModelError, positive_int, unknown
from senet.layers import STEMS, cifar_conv, init_conv
from senet.preact import PreActBlock, PreActBottleneck, PreActResNet
from senet.resnet import BasicBlock, Bottleneck, CifarResNet, ResNet

Builder = Callable[..., nn.Module]
BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}
PREACT_BLOCKS: dict[str, type[PreActBlock] | type[PreActBottleneck]] = {
    "basic": PreActBlock,
    "bottleneck": PreActBottleneck,
}


def classical(builder: Builder, *, stem: str, num_classes: int) -> nn.Module:
    """Return torchvision's untrained ResNet, its stem exchanged where ``stem`` is ``cifar``."""
    model = builder(weights=None, num_classes=num_classes)
    if stem == "cifar":
        model.conv1 = cifar_conv()
        init_conv(model.conv1)
        model.maxpool = nn.Identity()
    return model


def _from_catalogue(name: str, **options: Any) -> nn.Module:
    return _construct(resolve(name, **options))


# The classical ResNets and their SE twins, which take either stem, as functions of ``stem`` and
# ``num_classes``. A network from elsewhere is added to MODELS; those of this package are lines of
# `senet.catalogue`, and `build` knows them all by name. An installed package adds its own by an
# entry point of the group ENTRY_POINTS, which names such a function.
PLAIN_MODELS: dict[str, Builder] = {
    name: partial(classical, getattr(torchvision_resnet, name))
    for name, network in NETWORKS.items()
    if network.family == "resnet" and hasattr(torchvision_resnet, name)
}
SE_MODELS: dict[str, Builder] = {
    f"se_{base}": partial(_from_catalogue, f"se_{base}") for base in PLAIN_MODELS
}
MODELS: dict[str, Builder] = SE_MODELS | PLAIN_MODELS

ENTRY_POINTS = "senet_bench.models"


def _by_entry_point(entry: EntryPoint, **options: Any) -> nn.Module:
    """Return a model of another package, which is only imported once it is built; ModelError."""
    broken = f"model {entry.name!r}: its entry point {entry.value!r} cannot be loaded: "
    try:
        made: nn.Module = entry.load()(**options)
    except (Exception, SystemExit) as error:  # whatever code of others may raise
        raise ModelError(f"{broken}{type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{broken}it made no module but a {type(made).__name__}")
    return made


MODELS |= {
    entry.name: partial(_by_entry_point, entry)
    for entry in entry_points(group=ENTRY_POINTS)
    if entry.name not in MODELS and not is_known(entry.name)
}


def is_se(name: str) -> bool:
    """Say whether the named model has SE blocks; ModelError for a name that is unknown."""
    return (is_known(name) or name not in MODELS) and facts(name).attention == "se"


def build(
    name: str,
    *,
    stem: str | None = None,
    num_classes: int = 10,
    attention: Attention | str | None = None,
    shortcut: str | None = None,
    dropout: float | None = None,
    image_size: int | None = None,
    reduction: int | None = None,
    se_bias: bool | None = None,
    se_divisor: int | None = None,
) -> nn.Module:
    """Return the named model, untrained: (B, 3, H, W) -> logits (B, num_classes).

    ``stem`` is ``cifar`` (3×3, stride 1) or ``imagenet`` (7×7, stride 2, max-pool), which is the
    default of the models that can have both; the networks for CIFAR have the former alone, with 16
    channels. ``attention`` is a kind or an `Attention` with its options: ``se_resnet50``, and
    ``resnet50`` with ``se``, are the same model. Without, the five classical ResNets are
    torchvision's own.

    ``shortcut`` is A (the default) or B in the CIFAR ResNets of basic blocks, ``dropout`` that of
    the wide ones. ``image_size`` is needed by θ and θ+ of GE, whose gather over the whole image is
    learnt for a size (32 with the CIFAR stem, 224 with the other, unless given).

    ``reduction``, ``se_bias`` and ``se_divisor`` are the first options of an SE attention, one by
    one. Weights are drawn from torch's default generator. ModelError for unknown names, and for
    options that are out of range or not the model's.
    """
    arch = resolve(
        name,
        stem,
        num_classes,
        attention=attention,
        shortcut=shortcut,
        dropout=dropout,
        image_size=image_size,
        reduction=reduction,
        se_bias=se_bias,
        se_divisor=se_divisor,
    )
    if is_known(arch.name):
        model = _construct(arch)
    else:
        model = MODELS[name](stem=arch.stem, num_classes=arch.num_classes)
    model.architecture = arch  # type: ignore[assignment]  # nn.Module types its attributes as modules
    return model


def _construct(arch: Architecture) -> nn.Module:
    """Return the network of the catalogue that ``arch`` describes."""
    network = facts(arch.name).network
    options: dict[str, Any] = {"num_classes": arch.num_classes}
    if arch.name in PLAIN_MODELS:
        return PLAIN_MODELS[arch.name](stem=arch.stem, **options)
    options |= {"attention": arch.attention or NONE, "image_size": arch.image_size}
    if network.family == "resnet":
        return ResNet(BLOCKS[network.block], network.blocks, stem=arch.stem, **options)
    if network.family == "cifar_resnet":
        shortcut = arch.shortcut or network.shortcuts[0]
        return CifarResNet(BLOCKS[network.block], network.blocks, shortcut=shortcut, **options)
    options |= {"width": network.width, "dropout": arch.dropout or 0.0}
    return PreActResNet(PREACT_BLOCKS[network.block], network.blocks, **options)


def resolve(
    name: str, stem: str | None = None, num_classes: int = 10, **options: Any
) -> Architecture:
    """Return the architecture that `build` would build, its defaults filled in; ModelError.

    ``options`` are the others of `build`.
    """
    if name in MODELS and not is_known(name):
        return _of_stranger(name, stem, num_classes, options)
    return architecture.resolve(name, stem, num_classes, **options)


def _of_stranger(
    name: str, stem: str | None, num_classes: int, options: Mapping[str, Any]
) -> Architecture:
    """Return the architecture of a model that is not of the catalogue, and takes no options."""
    if stem is not None and stem not in STEMS:
        raise unknown("stem", stem, STEMS)
    for option, value in options.items():
        if value is not None and option != "image_size":
            raise ModelError(
                f"{name} comes from elsewhere and takes a stem and num_classes alone, "
                f"so {option} does not apply"
            )
    return Architecture(name, stem or "imagenet", positive_int("num_classes", num_classes))


def describe(model: nn.Module) -> Architecture | None:
    """Return the architecture of a model that `build` made; None for a model from elsewhere."""
    found = getattr(model, "architecture", None)
    return found if isinstance(found, Architecture) else None
