"""Carry out a whole experiment: train every run, profile every model, render the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from bench import run
from bench.cost import count
from bench.data import Dataset
from bench.device import resolve
from bench.events import Event, Profiling
from bench.experiment import Experiment
from bench.folders import check_writable
from bench.profile import Progress, is_complete, profile
from bench.record import ProfileRecord, RunRecord, read_record, write_record
from bench.report.write import Rendered, render
from bench.runtime import check as check_runtimes
from bench.spec import ModelSpec, ProfileSpec, RunSpec, validated

PROFILES = "profiles"
SHARED = {"data", "recipe", "precision", "runtime", "engine", "val_split", "target_top1"}


@dataclass(frozen=True)
class Conducted:
    """What an experiment left: its records and its report."""

    runs: tuple[RunRecord, ...]
    profiles: tuple[ProfileRecord, ...]
    rendered: Rendered


def conduct(
    experiment: Experiment,
    runs: Path,
    out: Path,
    *,
    emit: Callable[[Event], None],
    existing: run.Existing = "refuse",
) -> Conducted:
    """Train, test and profile all of an experiment, then render its report into ``out``.

    Runs and profiles lie in ``runs``; what is there already is not done again. Everything that
    can be refused is refused (UserError) before the first run starts.
    """
    device = resolve(experiment.device)
    check(experiment, device)
    check_writable(runs)
    check_writable(out)
    dataset, data_s = run.load_data(experiment.data, emit)
    specs = [
        _run_spec(experiment, device, model, seed)
        for model, seed in product(models(experiment, dataset), experiment.seeds)
    ]
    for spec in specs:
        run.check_batch_size(spec, len(dataset.train))
    train_run = partial(run.train_run, emit=emit, existing=existing, data_s=data_s)
    records = [train_run(spec, dataset, runs) for spec in specs]
    profiles = tuple(_profile(experiment, device, records, runs / PROFILES, emit))
    return Conducted(tuple(records), profiles, render([runs], out))


def check(experiment: Experiment, device: str) -> None:
    """Raise UserError for models, runtimes or precisions that cannot be, before data is read."""
    for model in models(experiment, None):
        run.check_runnable(_run_spec(experiment, device, model, experiment.seeds[0]))
    if experiment.profile is not None:
        check_runtimes(experiment.profile.runtimes)


def models(experiment: Experiment, dataset: Dataset | None) -> list[ModelSpec]:
    """Return the experiment's models, sized for the data set once it is there."""
    return [
        run.identify(
            entry.name,
            dataset,
            stem=entry.stem or "imagenet",
            reduction=entry.reduction,
            se_bias=entry.se_bias,
        )
        for entry in experiment.entries()
    ]


def _run_spec(experiment: Experiment, device: str, model: ModelSpec, seed: int) -> RunSpec:
    shared = experiment.model_dump(include=SHARED)
    return validated(RunSpec, shared | {"model": model, "seed": seed, "device": device})


def _profile(
    experiment: Experiment,
    device: str,
    records: list[RunRecord],
    folder: Path,
    emit: Callable[[Event], None],
) -> Iterator[ProfileRecord]:
    """Profile the models of all runs in one sitting, keeping each record at once.

    A sitting that was finished before is not repeated; one that was cut short is, as a whole,
    because rows of different sittings have not taken turns.
    """
    if experiment.profile is None:
        return
    run_ids = {record.spec.model: record.id for record in records}
    subjects = {"models": tuple(run_ids), "device": device}
    spec = validated(ProfileSpec, experiment.profile.model_dump() | subjects)
    place = folder / spec.digest()
    found = _profiles_in(place)
    if is_complete(spec, found):
        yield from found
        return
    for record in profile(
        spec,
        build=run.build,
        count=count,
        run_ids=run_ids,
        on_progress=lambda progress: emit(as_event(progress)),
    ):
        write_record(place / f"{record.id}.json", record)
        yield record


def _profiles_in(place: Path) -> list[ProfileRecord]:
    """Return the profile records of a folder that can be read; the report names the others."""
    found = []
    for path in sorted(place.glob("*.json")) if place.is_dir() else []:
        try:
            record = read_record(path)
        except (OSError, ValueError):
            continue
        if isinstance(record, ProfileRecord):
            found.append(record)
    return found


def as_event(progress: Progress) -> Event:
    """Return a profile's progress as an event."""
    done = (progress.group + progress.fraction) / max(1, progress.num_groups)
    return Profiling(progress.stage, progress.row, min(1.0, done))
