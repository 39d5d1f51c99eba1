"""``timm:NAME`` and ``hf-hub:ORG/NAME@REVISION``: PyTorch image models, by the extra timm."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from bench.compute.sources.source import (
    PRETRAINED,
    Source,
    Wanted,
    library,
    require,
    unknown_name,
)
from bench.errors import UserError, first_line
from bench.spec.preprocessing import Preprocessing

HUB_PREFIX = "hf-hub"
OFFLINE = (
    "the hub cannot be reached, and the model was not fetched before;"
    " connect once, or set HF_HOME to a cache that has it"
)


def timm() -> Source:
    """Return timm's models: ``timm:NAME``, or ``timm:NAME.TAG`` for one of its weights."""
    require("timm", "timm", "timm")
    return Source(
        build=_build,
        origin=_origin,
        names=_names,
        preprocessing=_preprocessing,
        input_size=_input_size,
    )


def hf_hub() -> Source:
    """Return models of the Hugging Face hub that timm can build: ``hf-hub:ORG/NAME@REVISION``."""
    require(HUB_PREFIX, "timm", "timm", "huggingface_hub")
    return Source(
        build=_build_hub,
        origin=_hub_origin,
        preprocessing=_hub_preprocessing,
        input_size=lambda name: _side(_hub_config(name)),
    )


def _names() -> Iterable[str]:
    import timm

    return map(str, timm.list_models())


def _origin(name: str) -> dict[str, str]:
    _check(name)
    return library("timm")


def _input_size(name: str) -> int | None:
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    return _side(vars(known)) if known else None


def _side(config: dict[str, Any]) -> int | None:
    """Return the pixels a side that weights are tested with, else trained with."""
    size = config.get("test_input_size") or config.get("input_size")
    return int(size[-1]) if size else None


def _build(name: str, wanted: Wanted) -> nn.Module:
    import timm

    _check(name)
    fixed = timm.models.get_pretrained_cfg(name)
    sized = {"img_size": wanted.image_size} if fixed and fixed.fixed_input_size else {}
    return _create(name, wanted, sized)


def _check(name: str) -> None:
    """Raise UserError for a model or a tag that timm does not know, naming the nearest."""
    import timm
    from timm.models import get_arch_pretrained_cfgs, split_model_name_tag

    architecture, tag = split_model_name_tag(name)
    if not timm.is_model(architecture):
        raise unknown_name("timm", name, timm.list_models())
    tagged = list(get_arch_pretrained_cfgs(architecture))
    if tag and name not in tagged:
        tags = ", ".join(known.partition(".")[2] for known in tagged) or "none"
        raise UserError(f"timm:{architecture} has no weights {tag!r}; it has: {tags}")


def _create(name: str, wanted: Wanted, sized: dict[str, Any]) -> nn.Module:
    import timm

    if wanted.weights not in (None, PRETRAINED):
        raise UserError(f"timm names weights by a tag, as in timm:{name}.TAG, not {wanted.weights}")
    arguments = sized | dict(wanted.arguments)
    if wanted.in_channels != 3:
        arguments["in_chans"] = wanted.in_channels
    with _quiet():
        model: nn.Module = timm.create_model(
            name, pretrained=wanted.weights is not None, num_classes=wanted.num_classes, **arguments
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what timm and the hub log and warn of off the screen, which may be somebody's JSON."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def _preprocessing(name: str, wanted: Wanted) -> Preprocessing | None:
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    return _of_config(vars(known), f"timm:{name}", wanted) if known else None


def _of_config(config: dict[str, Any], name: str, wanted: Wanted) -> Preprocessing:
    """Return the preprocessing in timm's own configuration of a model's weights."""
    from timm.data.config import resolve_data_config

    found = resolve_data_config({}, pretrained_cfg=config, use_test_size=True)  # type: ignore[no-untyped-call]
    if found["crop_mode"] == "border":
        raise UserError(f"{name} wants images with borders (crop_mode border), which is not known")
    return Preprocessing(
        resize_size=math.floor(wanted.image_size / found["crop_pct"]),
        resize_mode="squash" if found["crop_mode"] == "squash" else "shorter",
        interpolation=found["interpolation"],
        mean=found["mean"],
        std=found["std"],
    )


def _build_hub(name: str, wanted: Wanted) -> nn.Module:
    config = _hub_config(name)
    fixed = config.get("fixed_input_size", False)
    sized = {"img_size": wanted.image_size} if fixed else {}
    with _telling_of_the_hub(name):
        return _create(f"{HUB_PREFIX}:{name}", wanted, sized)


def _hub_config(name: str) -> dict[str, Any]:
    from timm.models import load_model_config_from_hf

    with _telling_of_the_hub(name), _quiet():
        config, _, _ = load_model_config_from_hf(name)
    return dict(config)


def _hub_preprocessing(name: str, wanted: Wanted) -> Preprocessing | None:
    return _of_config(_hub_config(name), f"{HUB_PREFIX}:{name}", wanted)


def _hub_origin(name: str) -> dict[str, str]:
    """Return timm's version and the commit that the revision, or the newest, stands for."""
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.partition("@")
    with _telling_of_the_hub(name), _quiet():
        path = Path(hf_hub_download(repository, "config.json", revision=revision or None))
    return library("timm") | {"revision": path.parent.name}  # the cache's snapshots/COMMIT/


@contextlib.contextmanager
def _telling_of_the_hub(name: str) -> Iterator[None]:
    """Say in one line what is the matter with the hub, a name on it, or the way there."""
    from huggingface_hub import errors

    full = f"{HUB_PREFIX}:{name}"
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{full} is no ORG/NAME of the hub: {first_line(error)}") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(f"{full}: {OFFLINE}") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{full}: the hub knows the model, and no such revision") from None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
        raise UserError(f"{full}: the hub has no such model that timm can build") from None
    except (ConnectionError, OSError, errors.HfHubHTTPError) as error:
        raise UserError(f"{full}: {OFFLINE} ({first_line(error)})") from None
