"""Read files of weights from wherever they were trained, and write them whole.

No file can run code here: safetensors holds none, and torch's own files are read with
``weights_only``.
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
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from senet.architecture import Architecture
from senet.errors import ModelError
from senet.layouts import State, strip_wrappers
from senet.zoo import describe

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# Where training scripts keep the weights in a checkpoint, the likeliest first.
WRAPPERS = (
    *(
        "state_dict",
        "model",
        "model_state_dict",
        "model_state",
        "net",
        "network",
        "weights",
        "module",
    ),
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
# Numbers that stand for themselves; those of 8 bits and less come with a scale.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
METADATA_KEY = "senet"  # one key alone: safetensors writes several in random order


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
    if os.path.getsize(path) == 0:  # as some files of the system say that are waited for for ever
        raise ModelError(f"cannot read weights file {path}: damaged, it is empty")
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except (safetensors.SafetensorError, OSError, RuntimeError, ModelError) as error:
        raise ModelError(f"cannot read weights file {path}: {first_line(error)}") from None


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
        with path.open("rb") as file:
            refuse_bombs(file)
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


def refuse_bombs(file: BinaryIO) -> None:
    """Raise ModelError for an archive that would unpack to more than it is: torch packs nothing."""
    size = file.seek(0, os.SEEK_END)
    if not zipfile.is_zipfile(file):
        return
    unpacked = sum(member.file_size for member in zipfile.ZipFile(file).infolist())
    if unpacked > size:
        raise ModelError(f"it would unpack to {unpacked / 2**30:.3g} GiB, which torch never writes")


def _torch_problem(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return (
            f"it holds a Python object ({found[1]}), and objects can run code; "
            "save model.state_dict() alone"
        )
    if "TorchScript" in str(error):
        return "it is a TorchScript program; save model.state_dict() alone"
    why = first_line(error)
    if "weights_only" in why:  # torch advises to switch off what keeps the file's code from running
        why = "it asks for more than weights"
    return f"damaged, or not a torch file ({type(error).__name__}: {why})"


def first_line(error: Exception) -> str:
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
    keys = shorten(str(key) for key in content) or "none"
    raise ModelError(f"weights file {path} holds no state dict; its keys: {keys}")


def _tensors_only(content: Mapping[Any, Any], path: Path) -> State:
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(f"weights file {path}: {key!r} is no tensor, {type(value).__name__}")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ModelError(f"weights file {path}: {key!r} is no dense tensor with values")
        if value.is_floating_point() and value.dtype not in FLOATS:
            raise ModelError(f"weights file {path}: {key!r} is of {value.dtype}, without its scale")
    return dict(content)


def shorten(keys: Iterable[str], limit: int = 2) -> str:
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
