"""Save the state of a training so that a damaged or half-written file is never taken for one.

A checkpoint is one line of header with the SHA-256 of what follows, then torch's own format,
which is read with ``weights_only`` so that no file can run code. Names sort by progress, but what
is inside decides; the one that was best on the held-out images is kept beside the newest. A file
that is damaged is set aside under another name, so that it never takes the place of a whole one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import torch

from bench.record.files import size_of_file, write_whole
from senet.weight_files import refuse_bombs

MAGIC = b"senet-bench-checkpoint 1 "
KEPT = 2
BEST = "-best"
DAMAGED = ".damaged"
_NAME = re.compile(r"checkpoint-(\d{6})-(\d{8})(-best)?\.ckpt")


class Damaged(ValueError):
    """The file is not a whole checkpoint."""


def save(folder: Path, state: dict[str, Any], *, best: bool = False) -> Path:
    """Write a checkpoint of ``state`` (with its ``epoch`` and ``step``) and drop older ones.

    The newest two stay, and the newest that was the ``best``. Raises UserError when the folder
    cannot be written to; what was saved before is then as it was.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    digest = hashlib.sha256(body).hexdigest().encode()
    kind = BEST if best else ""
    path = folder / f"checkpoint-{state['epoch']:06d}-{state['step']:08d}{kind}.ckpt"
    write_whole(path, MAGIC, digest, b"\n", body)
    _drop_older(path, 1 if best else KEPT)
    return path


def _drop_older(written: Path, num: int) -> None:
    """Keep ``num`` checkpoints: the one just written, and the furthest of its kind up to it.

    What claims to be further is of no use any more: the training has not gone on from it.
    """
    alike = [path for path in checkpoints(written.parent) if is_best(path) == is_best(written)]
    before = [path for path in alike if path.name < written.name]
    for path in alike:
        if path != written and path not in before[: num - 1]:
            path.unlink(missing_ok=True)


def keep_newest(folder: Path) -> None:
    """Drop all but the furthest checkpoint and the best."""
    others = [path for path in checkpoints(folder) if not is_best(path)]
    for old in others[1:]:
        old.unlink(missing_ok=True)


def is_best(path: Path) -> bool:
    """Say whether a checkpoint is the one that was best on the held-out images."""
    return path.stem.endswith(BEST)


def load(path: Path, device: str) -> dict[str, Any]:
    """Return the state in a checkpoint, its tensors on ``device``; `Damaged` says what is wrong."""
    try:
        size_of_file(path)
    except ValueError as error:
        raise Damaged(f"{path.name} is no checkpoint: {error}") from None
    data = path.read_bytes()
    header, _, body = data.partition(b"\n")
    if not header.startswith(MAGIC):
        raise Damaged(f"{path.name} is not a checkpoint or is cut short")
    if hashlib.sha256(body).hexdigest().encode() != header[len(MAGIC) :]:
        raise Damaged(f"{path.name} is damaged: its SHA-256 does not match")
    try:
        refuse_bombs(io.BytesIO(body))
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except Exception as error:  # whoever can write a hash can write what raises anything
        problem = type(error).__name__
        raise Damaged(f"{path.name} holds more than plain tensors ({problem})") from None
    if not isinstance(state, dict) or not _says_how_far(state):
        raise Damaged(f"{path.name} holds no state of a training")
    return state


def _says_how_far(state: dict[str, Any]) -> bool:
    said = [state.get("epoch"), state.get("step")]
    return all(type(number) is int and number >= 0 for number in said)


def checkpoints(folder: Path) -> list[Path]:
    """Return a folder's checkpoints, the furthest first."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file())
    return sorted(found, key=lambda path: (path.stem.removesuffix(BEST), path.stem), reverse=True)


def load_newest(folder: Path, device: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the furthest whole checkpoint's state, if any, and what was found damaged.

    How far one is, it says itself; a damaged one is renamed.
    """
    newest: dict[str, Any] | None = None
    problems: list[str] = []
    for path in checkpoints(folder):
        try:
            state = load(path, device)
        except (Damaged, OSError) as error:
            problems.append(str(error))
            _set_aside(path)
            continue
        if newest is None or _progress(state) > _progress(newest):
            newest = state
    return newest, problems


def _progress(state: dict[str, Any]) -> tuple[int, int]:
    return state["epoch"], state["step"]


def _set_aside(path: Path) -> None:
    with contextlib.suppress(OSError):  # it stays where it is, and is passed over again
        path.replace(path.with_name(path.name + DAMAGED))


def remove_all(folder: Path) -> None:
    """Delete all checkpoints of a folder."""
    for path in checkpoints(folder):
        path.unlink(missing_ok=True)
