"""A job's folder on its way between machines that share none: whole and unharmed, or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from bench.execute import lock
from bench.execute.jobs import ProfileJob
from bench.execute.launch.journal import EVENTS
from bench.execute.launch.node import JOB, LAUNCHED, read_assignment, write_assignment
from bench.execute.run_folder import RECORD
from bench.record.failure import ARCHIVED, is_failure
from bench.record.files import write_set

Packed = dict[str, tuple[str, bytes]]  # SHA-256 and content of each file
WEIGHTS = "weights-sent"  # of the runs that a sitting profiles
STAYS = {JOB, LAUNCHED, lock.LOCK}  # what each side has of its own


class Damaged(Exception):
    """A file is not what was sent."""


def pack(folder: Path) -> Packed:
    """Return the files of a folder; not those of who does the job, nor of what is being written."""
    return {
        path.name: _packed(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in STAYS and not path.name.startswith(".")
    }


def _packed(path: Path) -> tuple[str, bytes]:
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), content


def unpack(packed: Packed, folder: Path) -> None:
    """Write all files, a run's record last; `Damaged` before the first if one was changed."""
    for name, (digest, content) in packed.items():
        if hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(f"{name} did not come whole")
    names = sorted(packed, key=lambda name: name == RECORD)
    folder.mkdir(parents=True, exist_ok=True)
    write_set(folder, {name: packed[name][1] for name in names})


def send_out(folder: Path) -> Packed:
    """Return all that the job of a folder needs elsewhere: what there is of it, and weights."""
    packed = pack(folder)
    if not (folder / JOB).exists():
        return packed
    packed[JOB] = _packed(folder / JOB)
    job = read_assignment(folder).job
    if isinstance(job, ProfileJob):
        files = (Path(path) for _, path in job.weights)
        packed |= {f"{WEIGHTS}/{n}{path.suffix}": _packed(path) for n, path in enumerate(files)}
    return packed


def settle_in(packed: Packed, folder: Path) -> None:
    """Unpack what was sent into a folder of this node; weights are read from there."""
    unpack(packed, folder)
    if (folder / WEIGHTS).is_dir():
        told = read_assignment(folder)
        assert isinstance(told.job, ProfileJob), "only a sitting is sent weights"
        weights = tuple(
            (model, str(folder / WEIGHTS / f"{number}{Path(path).suffix}"))
            for number, (model, path) in enumerate(told.job.weights)
        )
        write_assignment(folder, replace(told, job=replace(told.job, weights=weights)))


def take_home(packed: Packed, folder: Path) -> None:
    """Make a folder here what the one there is, but for the events, which came before."""
    unpack({name: file for name, file in packed.items() if name != EVENTS}, folder)
    for path in folder.iterdir():
        own = path.name in STAYS | {EVENTS} or is_failure(path) or path.suffix == ARCHIVED
        if path.is_file() and not own and path.name not in packed:
            path.unlink()  # a checkpoint that was sent out, and that a newer one has replaced
