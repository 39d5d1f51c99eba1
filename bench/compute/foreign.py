"""Models that are not of this project: identified by building them once, and built again."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from bench.compute.architecture import architecture_digest, check_logits
from bench.compute.sources import PRETRAINED, SOURCES, Wanted, source
from bench.data import entry
from bench.errors import UserError, first_line
from bench.spec.model import ModelSpec, Origin
from bench.spec.model_name import ModelName, parse
from bench.spec.preprocessing import Preprocessing
from bench.spec.run import DataSpec
from bench.spec.values import validated
from senet.errors import ModelError
from senet.weight_files import read_weights
from senet.weights import PRETRAINED_PREFIX


def identify(named: ModelName, sizes: dict[str, Any], arguments: dict[str, Any]) -> ModelSpec:
    """Return which model it is, library, revision, file and architecture; UserError.

    ``sizes`` are the number of classes, the image size and the channels that it is built for.
    """
    facts = {"name": named.full, "stem": None, "arguments": arguments, **sizes}
    model = validated(ModelSpec, facts)
    network = _shaped(named, model)
    origin = Origin(
        source=named.prefix,
        architecture=architecture_digest(network),
        **source(named.prefix).origin(named.rest),
    )
    return model.model_copy(update={"origin": origin})


def build(model: ModelSpec, weights: str | None = None) -> nn.Module:
    """Return the model with weights from torch's generator, of its source by name, or in a file.

    UserError when the library, the user's file or the architecture are no longer those of
    ``model.origin``: what was identified under the name is then another model.
    """
    named = parse(model.name)
    ours, file = (weights, None) if weights and is_name(weights) else (None, weights)
    network = _build(named, model, ours)
    _check_same(named, model, network)
    if file is not None:
        load_file(network, file)
    return network


def is_name(weights: str) -> bool:
    """Say whether weights are a library's by name, to be downloaded, rather than a file."""
    return weights == PRETRAINED or weights.startswith(PRETRAINED_PREFIX)


def load_file(network: nn.Module, path: str) -> None:
    """Copy the weights in a file into a model, key for key; ModelError where they do not fit."""
    state, architecture = read_weights(path)
    own = network.state_dict()
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": shapes,
    }
    told = [f"{what}: {', '.join(keys[:4])}" for what, keys in problems.items() if keys]
    if told:
        holds = f"it holds {architecture}; " if architecture else ""
        raise ModelError(f"{path} does not fit {type(network).__name__}: {holds}{'; '.join(told)}")
    network.load_state_dict(state)


def preprocessing(model: ModelSpec, weights: str | None = None) -> Preprocessing | None:
    """Return how the weights of the model's source want images; None where it does not say."""
    named = parse(model.name)
    prefix = named.prefix
    if not prefix and weights and weights.startswith(PRETRAINED_PREFIX):
        library = PRETRAINED_PREFIX.removesuffix(":")  # whose weights ours may take
        prefix = library if named.rest in source(library).names() else ""
    if not prefix:
        return None
    return source(prefix).preprocessing(named.rest, wanted(model, weights))


def prepared(data: DataSpec, model: ModelSpec, weights: str | None) -> DataSpec:
    """Return the data as the weights of a model's source want them; as they are for others.

    Data sets of one size are not resized, and only normalised so.
    """
    if weights is None or not is_name(weights):
        return data
    sized = model.model_copy(update={"image_size": data.image_size})
    found = preprocessing(sized, weights)
    if found is not None and not entry(data.name).resizes:
        found = found.model_copy(update={"resize_size": data.image_size})
    return data.model_copy(update={"preprocessing": found})


def input_size(named: ModelName) -> int | None:
    """Return the pixels a side that a model's own weights are for; None where nobody says."""
    return source(named.prefix).input_size(named.rest)


def sketch(named: ModelName, arguments: dict[str, Any]) -> ModelSpec:
    """Return what is known of a model before its classes are; UserError where there is none."""
    source(named.prefix).origin(named.rest)
    return validated(ModelSpec, {"name": named.full, "stem": None, "arguments": arguments})


def is_model(text: str) -> bool:
    """Say whether a text names a foreign model, not torchvision's weights in capitals."""
    prefix, _, rest = text.partition(":")
    return prefix in SOURCES and re.fullmatch("[A-Z0-9_]+", rest) is None


def is_trainable(model: ModelSpec) -> bool:
    """Say whether the model can be trained, which what was exported cannot."""
    prefix = parse(model.name).prefix
    return not prefix or source(prefix).trainable


def runtime(model: ModelSpec) -> str:
    """Return what a model computes in when it is called as a module."""
    prefix = parse(model.name).prefix
    return source(prefix).runtime if prefix else "eager"


def wanted(model: ModelSpec, weights: str | None = None) -> Wanted:
    """Return what a model is built for; ``weights`` as `is_name` knows them."""
    arguments = {key: _thawed(value) for key, value in model.arguments}
    sizes = (model.num_classes, model.image_size, model.in_channels)
    which = weights.removeprefix(PRETRAINED_PREFIX) if weights else None
    return Wanted(*sizes, arguments=arguments, weights=which)


def _thawed(value: Any) -> Any:
    return list(map(_thawed, value)) if isinstance(value, tuple) else value


def _shaped(named: ModelName, model: ModelSpec) -> nn.Module:
    """Return the model built without values where it lets itself be, its logits checked."""
    try:
        with torch.device("meta"):
            network = _build(named, model)
        _check(network, model, "meta")
    except (Exception, SystemExit):  # some code asks tensors for their values while it builds
        with torch.random.fork_rng(devices=[]):
            network = _build(named, model)
            _check(network, model, "cpu")
    return network


def _check(network: nn.Module, model: ModelSpec, device: str) -> None:
    size = model.image_size
    image = torch.zeros(1, model.in_channels, size, size, device=device)
    try:
        check_logits(network.eval(), model.name, image, model.num_classes)
    except UserError:
        raise
    except Exception as error:  # whatever a network raises that the image does not fit
        raise UserError(
            f"{model.name} cannot take images of {size}×{size}: {first_line(error)}"
        ) from None


def _build(named: ModelName, model: ModelSpec, weights: str | None = None) -> nn.Module:
    found = source(named.prefix)
    try:
        return found.build(named.rest, wanted(model, weights))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # what libraries and users' functions raise
        raise UserError(f"{named.full} cannot be built: {first_line(error)}") from None


def _check_same(named: ModelName, model: ModelSpec, network: nn.Module) -> None:
    assert model.origin is not None
    now = source(named.prefix).origin(named.rest)
    for field, what in (("file_sha256", "file"), ("revision", "revision"), ("version", "version")):
        was, has = getattr(model.origin, field), now.get(field)
        if was is not None and was != has:
            library = f" of {model.origin.library}" if field == "version" else ""
            raise UserError(
                f"{model.name} is not the model that it was: its {what}{library} was {was[:16]}"
                f" and is {str(has)[:16]}"
            )
    if architecture_digest(network) != model.origin.architecture:
        raise UserError(f"{model.name} is not the model that it was: its layers have changed")
