"""Copy weights into a model from a file, whoever wrote it, or from torchvision.

Weights that do not fit leave the model as it was.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from senet.architecture import Architecture
from senet.errors import ModelError, unknown
from senet.layouts import State, canonical, canonical_value, detect, hints, is_bookkeeping
from senet.weight_files import first_line, read_weights, shorten, unwrap
from senet.zoo import PLAIN_MODELS, describe

PRETRAINED_PREFIX = "torchvision:"


def load_weights(model: nn.Module, source: str | os.PathLike[str]) -> str:
    """Copy weights into ``model`` and return the key layout that they came in.

    ``source`` is a .safetensors or a torch (.pt, .pth) file in one of four layouts, found out by
    its keys: our own, torchvision's resnet, timm's (SE, ECA, CBAM) and the SEResNet of
    PappaLaity/SENet-50; or ``torchvision:NAME``, such as ``torchvision:IMAGENET1K_V2``, which is
    downloaded. ModelError when the file is missing, damaged or not weights alone, and, listing
    missing, unexpected and wrongly shaped keys, when it does not fit; the model is then untouched.
    """
    name = os.fspath(source)
    if name.startswith(PRETRAINED_PREFIX):
        state, metadata = _download(model, name.removeprefix(PRETRAINED_PREFIX)), None
    else:
        state, metadata = read_weights(name)
    if detect(state) == "Cadene":  # would fit once renamed, and compute something else
        raise ModelError(
            f"{name} does not fit: it is in another key layout, that of Cadene's pretrained-models,"
            " whose blocks stride in another convolution and would give other logits here"
        )
    target = unwrap(model).state_dict(keep_vars=True)
    pairs = _match(model, target, state, name, metadata)
    with torch.no_grad():
        for ours, theirs in pairs:
            ours.copy_(theirs)
    return detect(state)


def _download(model: nn.Module, name: str) -> State:
    """Return weights that torchvision publishes for the model; ModelError when it cannot."""
    architecture = describe(model)
    if architecture is None or architecture.name not in PLAIN_MODELS:
        who = architecture.name if architecture else type(model).__name__
        known = ", ".join(PLAIN_MODELS)
        raise ModelError(f"torchvision has no weights for {who}; it has them for: {known}")
    choices = get_model_weights(architecture.name).__members__
    if name not in choices:
        raise unknown(f"torchvision weights of {architecture.name}", name, choices)
    weights = choices[name]
    wanted = Architecture(architecture.name, "imagenet", len(weights.meta["categories"]))
    if architecture != wanted:  # said before a hundred megabytes are fetched
        advice = (
            f"build it with {wanted.num_classes} classes"
            if architecture.num_classes != wanted.num_classes
            else f"build it with --stem {wanted.stem}"
        )
        raise ModelError(
            f"{PRETRAINED_PREFIX}{name} is of {wanted}, the model is {architecture}: {advice}"
        )
    try:
        # torch announces downloads on standard output, which belongs to the caller.
        with contextlib.redirect_stdout(sys.stderr):
            state = weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True
            )
    except Exception as error:  # network, disk, hash or a damaged file in torch's cache
        raise ModelError(
            f"cannot download {weights.url}: {first_line(error)}; "
            "without a network, fetch that file elsewhere and give its path"
        ) from None
    return dict(state)


def _match(
    model: nn.Module,
    target: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    architecture: Architecture | None,
) -> list[tuple[Tensor, Tensor]]:
    """Return (the model's tensor, the file's) for every key; ModelError lists what does not fit."""
    ours = {canonical(key): key for key in target}
    theirs = {canonical(key): key for key in state}
    if len(theirs) < len(state):
        raise ModelError(f"{source} has the same weights twice, in two key layouts")
    values = {name: canonical_value(key, state[key]) for name, key in theirs.items()}
    missing = [key for name, key in ours.items() if name not in theirs and not _optional(name)]
    unexpected = [
        key for name, key in theirs.items() if name not in ours and not is_bookkeeping(name)
    ]
    both = [name for name in ours if name in theirs]
    wrong = [_difference(ours[name], values[name], target[ours[name]]) for name in both]
    wrong = [difference for difference in wrong if difference]
    if missing or unexpected or wrong:
        lists = {"wrongly shaped": wrong, "missing": missing, "unexpected": unexpected}
        problems = [f"{what}: {shorten(keys)}" for what, keys in lists.items() if keys]
        advice = hints({name: target[key] for name, key in ours.items()}, values)
        if architecture:
            advice.insert(0, f"the file holds {architecture}")
        named = describe(model) or type(unwrap(model)).__name__
        first, *more = [*advice, *problems]
        raise ModelError("; ".join([f"{source} does not fit {named}: {first}", *more]))
    if any(target[ours[name]].is_meta for name in both):
        raise ModelError("a model on the meta device cannot take weights")
    return [(target[ours[name]], values[name]) for name in both]


def _optional(name: str) -> bool:
    """Say whether a file may lack the key: torch before 0.4.1 did not count batches."""
    return name.endswith(".num_batches_tracked")


def _difference(key: str, file: Tensor, model: Tensor) -> str:
    """Return how the shapes differ, or nothing."""
    theirs, ours = _form(file), _form(model)
    return "" if theirs == ours else f"{key} ({theirs} in the file, {ours} in the model)"


def _form(value: Tensor) -> str:
    """Return shape and kind of number; a file in half precision fits a model in single."""
    kind = "" if value.is_floating_point() else " complex" if value.is_complex() else " integer"
    return f"{tuple(value.shape)}{kind}"
