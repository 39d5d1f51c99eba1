"""A model by its identity: named, sized for a data set, built, its weights known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

import senet
from bench import data
from bench.compute import foreign
from bench.errors import FieldError, UserError, unknown
from bench.record.files import sha256
from bench.spec.model_name import ModelName, parse
from bench.spec.run import ModelSpec
from bench.spec.values import STEMS, validated
from senet.attention import Attention

# Arguments in brackets that say what a model is built for, whoever builds it.
_SIZES = ("num_classes", "image_size", "in_channels")
_OURS = ("shortcut", "dropout")
_OPTIONS = tuple(field.name for field in fields(Attention))


def identify(
    name: str,
    dataset: data.Dataset | None = None,
    *,
    stem: str | None = None,
    num_classes: int = 10,
    image_size: int = 32,
    attention: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    beside: Iterable[str] = (),
) -> ModelSpec:
    """Return the identity of a model, sized for ``dataset`` where one is given.

    ``name`` may have a prefix and, in brackets, arguments of its own, to which ``arguments`` are
    added. ``attention`` holds what differs from the defaults of the attention that the name says
    (``kind`` among it, for a name without): where ``beside`` names a model that it is meant for,
    a plain model does without. UserError, or senet's ModelError, for what cannot be.
    """
    named = parse(name)
    given = dict(named.arguments) | dict(arguments or {})
    if dataset is not None:
        num_classes, image_size = len(dataset.classes), dataset.image_size
    sizes = {"num_classes": num_classes, "image_size": image_size}
    for key in _SIZES:
        if key in given:
            sizes[key] = given.pop(key)
    if dataset is not None:
        _check_fits(named, sizes, dataset)
    if named.prefix:
        if attention and not any(map(_has_attention, beside)):
            raise _no_attention(named)
        return foreign.identify(named, sizes, given)
    return _ours(named.rest, stem, sizes, dict(attention or {}), given, beside)


def sketch(name: str, **options: Any) -> ModelSpec:
    """Return as much of a model's identity as is known before the data set is.

    What can be refused by then is refused (UserError); `identify` does the rest.
    """
    named = parse(name)
    if not named.prefix:
        return identify(name, **options)
    if options.get("attention") and not any(map(_has_attention, options.get("beside", ()))):
        raise _no_attention(named)
    return foreign.sketch(named, dict(named.arguments) | dict(options.get("arguments") or {}))


def _no_attention(named: ModelName) -> UserError:
    return UserError(f"{named.full} is not of this project: attention options do not apply")


def _check_fits(named: ModelName, sizes: Mapping[str, Any], dataset: data.Dataset) -> None:
    """Raise UserError for sizes in brackets that are not those of the data set."""
    own = {"num_classes": len(dataset.classes), "image_size": dataset.image_size}
    words = {"num_classes": "{0} classes, not {1}", "image_size": "{0}×{0} pixels, not {1}×{1}"}
    if sizes.get("in_channels", 3) != 3:
        raise UserError(f"{named.full}: images of data sets have 3 channels")
    for key, has in own.items():
        if sizes[key] != has:
            told = words[key].format(has, sizes[key])
            raise UserError(f"{named.full}: the data set {dataset.label} has {told}")


def _ours(
    name: str,
    stem: str | None,
    sizes: dict[str, Any],
    attention: dict[str, Any],
    given: dict[str, Any],
    beside: Iterable[str],
) -> ModelSpec:
    """Return the identity of a model of this project, its defaults written out."""
    options = {key: given.pop(key) for key in _OURS if key in given}
    stem = given.pop("stem", stem)
    if stem not in (None, *STEMS):
        raise FieldError("stem", f"should be 'cifar' or 'imagenet' (got {stem!r})")
    for key in given:
        if key not in _OPTIONS:
            raise unknown(f"option of {name}", key, ("stem", *_OURS, *_OPTIONS))
    own = attention | given
    arch = senet.resolve(
        name,
        stem,
        sizes["num_classes"],
        attention=_attention(name, own, beside),
        image_size=sizes["image_size"],
        **options,
    )
    kept = {key: getattr(arch, key) for key in _OURS if getattr(arch, key) is not None}
    facts = {"name": arch.name, "stem": arch.stem, "attention": arch.attention, "arguments": kept}
    return validated(ModelSpec, facts | sizes)


def _attention(name: str, own: dict[str, Any], beside: Iterable[str]) -> Attention | None:
    """Return the attention that a name and its options say; None for none."""
    if name not in senet.MODELS and name not in set(senet.names()):
        raise unknown("model", name, known_names())
    kind = own.pop("kind", None) or _kind(name)
    if kind != "none":
        return Attention.from_dict({"kind": kind, **own})
    if own and not any(map(_has_attention, beside)):
        raise UserError(f"{name} has no SE block: --reduction and other SE options do not apply")
    return None


def known_names() -> list[str]:
    """Return the names of this project's models that a list of choices shows."""
    return list(dict.fromkeys([*senet.MODELS, *senet.NETWORKS]))


def _kind(name: str) -> str:
    return senet.attention_of(name) if name in set(senet.names()) else "none"


def _has_attention(text: str) -> bool:
    named = parse(text)
    return not named.prefix and (_kind(named.rest) != "none" or "kind" in named.arguments)


def build(model: ModelSpec, *, seed: int = 0, weights: str | None = None) -> nn.Module:
    """Return the model on the CPU, initialised from ``seed`` alone, or loaded from ``weights``.

    ``pretrained`` are the weights that a foreign model's source has for it. UserError where what is
    built is no longer what was identified.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model.origin is not None:
            return foreign.build(model, weights)
        network = senet.build(
            model.name,
            stem=model.stem,
            num_classes=model.num_classes,
            attention=model.attention,
            image_size=model.image_size,
            **dict(model.arguments),
        )
    if weights is not None:
        senet.load_weights(network, weights)
    return network


def is_pretrained_name(weights: str) -> bool:
    """Say whether ``weights`` names a library's, to be downloaded, rather than a file."""
    return foreign.is_name(weights)


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
