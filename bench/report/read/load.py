"""Read every record below some folders; what cannot be used is named and set aside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.record.failure import is_failure, read_failure
from bench.record.files import size_of_file
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record
from bench.record.run import RunRecord
from bench.record.seeds import SEEDS, SeedsRecord, read_seeds
from bench.report.read.plausible import contradiction
from bench.report.read.predictions import Contradicted, Predictions, read_predictions

# No record comes near this; a trace of a profiler, which is JSON too, easily does.
MAX_RECORD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SetAside:
    """Something found that the report does not use (or not fully), and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class LoadedRun:
    """A run record, where it lies, and its verified predictions where it has any."""

    record: RunRecord
    path: str
    predictions: Predictions | None


@dataclass(frozen=True)
class LoadedProfile:
    """A profile record and where it lies."""

    record: ProfileRecord
    path: str

    @property
    def starved(self) -> bool:
        """Tell whether other work had so much of the machine that nothing follows from it."""
        return self.record.noise is not None and self.record.noise.starved


@dataclass(frozen=True)
class Loaded:
    """All that some folders hold, in an order that does not depend on the file system."""

    runs: tuple[LoadedRun, ...]
    profiles: tuple[LoadedProfile, ...]
    set_aside: tuple[SetAside, ...]
    looked_in: tuple[str, ...]
    seeds: tuple[SeedsRecord, ...] = ()


def load(folders: Iterable[Path]) -> Loaded:
    """Read all records in and below ``folders`` (files are taken too).

    Raises UserError when a folder is not there, or when none of them holds a single record.
    """
    places = tuple(folders)
    for place in places:
        if not place.exists():
            raise UserError(f"{place} is not there; name a folder that holds records")
    runs: list[LoadedRun] = []
    profiles: list[LoadedProfile] = []
    aside: list[SetAside] = []
    seeds: list[SeedsRecord] = []
    for path in dict.fromkeys(path for place in places for path in _json_files(place)):
        if path.name == SEEDS:
            _read_seeds(path, seeds, aside)
        else:
            _read_one(path, runs, profiles, aside)
    looked_in = tuple(str(place) for place in places)
    if not runs and not profiles:
        raise UserError(_nothing_found(looked_in, aside))
    kept_runs, twin_runs = _newest_runs(runs)
    kept_profiles, twin_profiles = _unique_profiles(profiles)
    set_aside = sorted({*aside, *twin_runs, *twin_profiles}, key=lambda s: (s.path, s.reason))
    return Loaded(kept_runs, kept_profiles, tuple(set_aside), looked_in, tuple(seeds))


def _nothing_found(looked_in: tuple[str, ...], aside: list[SetAside]) -> str:
    where = f"no usable records in {', '.join(looked_in) or 'no folder at all'}"
    if not aside:
        return f"{where} (looked for *.json in it and below)"
    first = aside[0]
    return f"{where}; {len(aside)} set aside, the first: {first.path}: {first.reason}"


def _json_files(place: Path) -> Iterator[Path]:
    """Yield the JSON files in and below a folder, sorted; links to folders are not followed."""
    if place.is_file():
        yield place
        return
    for root, folders, files in os.walk(place):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".json") and not name.startswith("."):
                yield Path(root) / name


def _read_one(
    path: Path, runs: list[LoadedRun], profiles: list[LoadedProfile], aside: list[SetAside]
) -> None:
    """Read one file into one of the three lists."""
    where = path.as_posix()
    try:
        if size_of_file(path) > MAX_RECORD_BYTES:
            raise ValueError(f"larger than {MAX_RECORD_BYTES >> 20} MiB, so not a record")
        if is_failure(path):
            raise ValueError(f"failed: {read_failure(path).reason}")
        record = read_record(path)
    except (OSError, ValueError, RecursionError) as error:
        aside.append(SetAside(where, _one_line(error)))
        return
    problem = None if record.status == "diverged" else contradiction(record)
    if problem:
        aside.append(SetAside(where, f"contradicts itself: {problem}"))
    elif isinstance(record, ProfileRecord):
        profiles.append(LoadedProfile(record, where))
    elif record.status == "diverged":
        aside.append(SetAside(where, f"diverged: {record.reason or 'no reason recorded'}"))
    else:
        _read_run(path, record, runs, aside)


def _read_seeds(path: Path, seeds: list[SeedsRecord], aside: list[SetAside]) -> None:
    try:
        size_of_file(path)
        seeds.append(read_seeds(path))
    except (OSError, ValueError) as error:
        aside.append(SetAside(path.as_posix(), _one_line(error)))


def _read_run(path: Path, record: RunRecord, runs: list[LoadedRun], aside: list[SetAside]) -> None:
    """Take a run with its predictions, unless these belie it."""
    try:
        runs.append(LoadedRun(record, path.as_posix(), _predictions(path, record, aside)))
    except Contradicted as error:
        aside.append(SetAside(path.as_posix(), f"contradicts itself: {error}"))


def _predictions(path: Path, record: RunRecord, aside: list[SetAside]) -> Predictions | None:
    """Return the predictions beside a run record, or set them aside and go without."""
    if record.predictions is None:
        return None
    file = path.parent / Path(record.predictions.name).name
    try:
        return read_predictions(file, record)
    except Contradicted:
        raise
    except (OSError, ValueError) as error:
        note = f"{_one_line(error)}; the run's own accuracy is used, without paired tests"
        aside.append(SetAside(file.as_posix(), note))
        return None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return "not a text file in UTF-8"
    return " ".join(str(error).split()) or type(error).__name__


def _newest_runs(runs: list[LoadedRun]) -> tuple[tuple[LoadedRun, ...], list[SetAside]]:
    """Keep one run of each specification and seed, the newest; a repeat is not another seed."""
    kept: dict[str, LoadedRun] = {}
    aside: list[SetAside] = []
    for run in sorted(runs, key=lambda r: (r.record.created_at, r.path)):
        key = _same_run(run.record)
        if key in kept:
            same = kept[key].record.id == run.record.id
            why = "a duplicate of" if same else "the same specification and seed, older than"
            aside.append(SetAside(kept[key].path, f"{why} {run.path}"))
        kept[key] = run
    return tuple(sorted(kept.values(), key=lambda r: r.path)), aside


def _same_run(record: RunRecord) -> str:
    """Return what two runs share only if one repeats the other."""
    left_out = {"data_dir", "label", "train_limit", "test_limit"}
    spec = record.spec.model_dump_json(exclude={"data": left_out})
    software = {name: record.environment.packages.get(name) for name in ("torch", "torchvision")}
    place = (
        record.environment.device_name,
        record.dataset.digest,
        record.dataset.num_train,
        sorted(software.items()),
    )
    return hashlib.sha256(f"{spec}{place}".encode()).hexdigest()


def _unique_profiles(
    profiles: list[LoadedProfile],
) -> tuple[tuple[LoadedProfile, ...], list[SetAside]]:
    """Keep one profile of each id; profiles repeated in other processes have ids of their own."""
    kept: dict[str, LoadedProfile] = {}
    aside: list[SetAside] = []
    for profile in profiles:
        first = kept.setdefault(profile.record.id, profile)
        if first is not profile:
            aside.append(SetAside(profile.path, f"a duplicate of {first.path}"))
    return tuple(sorted(kept.values(), key=lambda p: p.path)), aside
