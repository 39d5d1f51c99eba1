"""Read weights from wherever they were trained, and write them so that nothing is half done.

No file can run code here: safetensors holds none, and torch's own files are read with
``weights_only``. A file that does not fit leaves the model as it was.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from senet.architecture import Architecture
from senet.errors import ModelError, unknown
from senet.layouts import (
    State,
    canonical,
    canonical_value,
    detect,
    hints,
    is_bookkeeping,
    strip_wrappers,
)
from senet.zoo import PLAIN_MODELS, describe

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# Where training scripts keep the weights in a checkpoint, the likeliest first.
WRAPPERS = (
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
# Types that scripts save beside the weights; to make one of them runs no code of the file's.
HARMLESS_TYPES: tuple[Any, ...] = (
    argparse.Namespace,
    collections.OrderedDict,
    collections.defaultdict,
    datetime.datetime,
    datetime.timedelta,
    pathlib.PosixPath,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(name)) for name in ("bool", "i1", "i2", "i4", "i8", "f2", "f4", "f8")),
    (np.empty(0).__reduce__()[0], "numpy._core.multiarray._reconstruct"),
    (np.empty(0).__reduce__()[0], "numpy.core.multiarray._reconstruct"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
)
METADATA_KEY = "senet"  # one key alone: safetensors writes several in random order
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


def read_weights(path: str | os.PathLike[str]) -> tuple[State, Architecture | None]:
    """Return the tensors in a file, on the CPU, and the architecture that `save_weights` noted.

    The keys are the file's, without what wrappers such as DistributedDataParallel prefix.
    ModelError when there is no file or it holds no weights.
    """
    path = _checked(path)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return strip_wrappers(_find_state(_read_torch(path), path)), None


def read_architecture(path: str | os.PathLike[str]) -> Architecture | None:
    """Return what `save_weights` noted in a file; None for a file that something else wrote.

    Only the file's header is read. ModelError when there is no file or no header.
    """
    path = _checked(path)
    if path.suffix.lower() != ".safetensors":
        return None
    with _opened(path) as file:
        return _architecture(_own_facts(file.metadata() or {}).get("architecture"))


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model's weights as safetensors, whole or not at all (temporary file, fsync, rename).

    The file names its architecture and carries a SHA-256 of its tensors, which `load_weights`
    checks. Devices and memory formats leave no trace in it. ModelError when it cannot be written.
    """
    path = Path(path)
    model = unwrap(model)
    if any(value.is_meta for value in model.state_dict().values()):
        raise ModelError("a model on the meta device has no weights to save")
    # Copies, because safetensors takes neither shared storage nor channels_last.
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    architecture = describe(model)
    facts = {
        "architecture": architecture.to_dict() if architecture else None,
        "sha256": digest(state),
    }
    metadata = {METADATA_KEY: json.dumps(facts, sort_keys=True)}
    _write_whole(path, safetensors.torch.save(state, metadata))


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, whatever their order."""
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside torch.compile's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


# Reading


def _checked(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not os.path.isfile(path):  # Path's own raises for names that no file system takes
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise ModelError(f"weights file {path} {what}")
    known = (".safetensors", *TORCH_SUFFIXES)
    if path.suffix.lower() not in known:
        raise ModelError(
            f"weights file {path} has an unknown ending; choose from: {', '.join(known)}"
        )
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except (safetensors.SafetensorError, OSError, RuntimeError, ModelError) as error:
        raise ModelError(f"cannot read weights file {path}: {_first_line(error)}") from None


def _read_safetensors(path: Path) -> tuple[State, Architecture | None]:
    with _opened(path) as file:
        metadata = file.metadata() or {}
        facts = _own_facts(metadata)
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    if METADATA_KEY not in metadata:
        return strip_wrappers(state), None
    if facts.get("sha256") != digest(state):
        raise ModelError(f"weights file {path} is damaged: its SHA-256 does not match")
    return state, _architecture(facts.get("architecture"))


def _own_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        facts = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):  # to go on would be to go on without the check of its SHA-256
        raise ModelError("its note of what it holds is damaged")
    return facts


def _architecture(facts: object) -> Architecture | None:
    try:
        return Architecture.from_dict(facts) if isinstance(facts, dict) else None
    except (ModelError, TypeError):  # written by something else, or by a later version
        return None


def _read_torch(path: Path) -> object:
    try:
        _refuse_text(path)
        with torch.serialization.safe_globals(list(HARMLESS_TYPES)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read weights file {path}: {error.strerror or error}") from None
    except Exception as error:  # a damaged or hostile file raises anything, from KeyError to struct
        raise ModelError(f"cannot read weights file {path}: {_torch_problem(error)}") from None


def _refuse_text(path: Path) -> None:
    """Raise ModelError for what stands in a file's place where it was not fetched."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"weights file {path} is a git-lfs pointer: fetch it with git lfs pull")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(f"weights file {path} is a web page, not the file that was to be fetched")


def _torch_problem(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return (
            f"it holds a Python object ({found[1]}), and objects can run code; "
            "save model.state_dict() alone"
        )
    if "TorchScript" in str(error):
        return "it is a TorchScript program; save model.state_dict() alone"
    why = _first_line(error)
    if "weights_only" in why:  # torch advises to switch off what keeps the file's code from running
        why = "it asks for more than weights"
    return f"damaged, or not a torch file ({type(error).__name__}: {why})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _find_state(content: object, path: Path) -> State:
    """Return the state dict in what a torch file holds, directly or under a usual name."""
    if not isinstance(content, Mapping):
        raise ModelError(f"weights file {path} holds no state dict but {type(content).__name__}")
    if any(isinstance(value, Tensor) for value in content.values()):
        return _tensors_only(content, path)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _find_state(content[wrapper], path)
    keys = _shorten(str(key) for key in content) or "none"
    raise ModelError(f"weights file {path} holds no state dict; its keys: {keys}")


def _tensors_only(content: Mapping[Any, Any], path: Path) -> State:
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(f"weights file {path}: {key!r} is no tensor, {type(value).__name__}")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ModelError(f"weights file {path}: {key!r} is no dense tensor with values")
    return dict(content)


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
            f"cannot download {weights.url}: {_first_line(error)}; "
            "without a network, fetch that file elsewhere and give its path"
        ) from None
    return dict(state)


# Matching


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
        problems = [f"{what}: {_shorten(keys)}" for what, keys in lists.items() if keys]
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


def _shorten(keys: Iterable[str], limit: int = 2) -> str:
    keys = list(keys)
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


# Writing


def _write_whole(path: Path, content: bytes) -> None:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that nobody else may read
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ModelError(f"cannot write {path}: {error.strerror or error}") from None
        raise
