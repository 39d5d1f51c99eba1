"""Carry out a whole experiment: train every run, profile every model, render the report.

Each run, and the sitting that profiles the models, is a job: it is done in a process of its own,
and what goes wrong in one is recorded beside it and keeps no other from being done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from bench.compute.inference import check as check_runtimes
from bench.compute.model import identify, sketch
from bench.data import Dataset
from bench.errors import UserError
from bench.events import EmitNews, JobEnded, JobFailed, RunDone
from bench.execute import checks, run_folder, train_run
from bench.execute.jobs import ProfileJob, TrainJob, profiles_in, put_aside, resumed
from bench.execute.launch.journal import journal
from bench.execute.launch.launchers import Launcher
from bench.execute.launch.suite import carry_out_all, goes_on, is_handed_over
from bench.execute.process import carry_out
from bench.execute.resolve import Question, looks_of, until_decided
from bench.execute.sittings import prefixed
from bench.execute.subjects import Subjects, profile_job
from bench.machine.devices import check_name, resolve
from bench.machine.environment import utc_now
from bench.measure.rows import is_complete
from bench.record.failure import Failure, archive_failures, failures, write_failure
from bench.record.files import check_writable
from bench.record.profile import ProfileRecord
from bench.record.run import RunRecord
from bench.report.derive.seeds import NOTHING_STATED, Stated
from bench.report.write import Rendered, render
from bench.spec.experiment import Experiment
from bench.spec.run import ModelSpec, RunSpec
from bench.spec.test_set import TestSpec
from bench.spec.values import validated

PROFILES = "profiles"
MAX_SITTINGS = 2  # of a profile whose every sitting is starved by other work
# What an experiment says of all its runs; the device is resolved first.
SHARED = (Experiment.model_fields.keys() & RunSpec.model_fields.keys()) - {"device"}


@dataclass(frozen=True)
class Conducted:
    """What an experiment left: its records, its report if there is one, what failed this time."""

    runs: tuple[RunRecord, ...]
    profiles: tuple[ProfileRecord, ...]
    rendered: Rendered | None
    failed: tuple[JobFailed, ...]


def conduct(
    experiment: Experiment,
    runs: Path,
    out: Path,
    *,
    emit: EmitNews,
    if_unfinished: run_folder.IfUnfinished = "refuse",
    timeout_s: float | None = None,
    stated: Stated = NOTHING_STATED,
    remeasure: bool = False,
    launcher: Launcher | None = None,
    retries: int = 0,
    question: Question | None = None,
) -> Conducted:
    """Train, test and profile all of an experiment, then render its report into ``out``.

    Runs and profiles lie in ``runs``; what is there already is not done again, and what failed
    before is continued. Everything that can be refused is refused (UserError) before the first
    run starts. A job that fails, or takes longer than ``timeout_s`` seconds, is recorded as a
    `Failure`, and the others are done. Raises `Preempted` when a signal asked for an end. With a
    ``launcher`` the jobs are done by it, each ``retries`` times more where it fails, and the
    sitting has a node for itself. ``remeasure`` profiles anew. With a ``question`` seeds are added
    until it is settled.
    """
    device = _device(experiment, launcher)
    if launcher is None or not launcher.is_remote:  # what nodes cannot do, they say
        check(experiment, device)
    if question is not None:
        looks_of(question, experiment.seeds, runs)
    check_writable(runs)
    check_writable(out)
    dataset, _ = train_run.load_data(experiment.data, emit)
    how = _How(emit, timeout_s, launcher, retries)
    spec_of = partial(run_spec, experiment, device)
    entries = models(experiment, dataset)

    def train(wanted: Sequence[RunSpec]) -> list[JobFailed]:
        jobs = [_train_job(spec, runs, if_unfinished, dataset.digest) for spec in wanted]
        for job in jobs:
            checks.check_batch_size(job.spec, len(dataset.train))
            run_folder.check_unfinished(job.folder, job.if_unfinished)
        return _trained(jobs, dataset, how)

    if question is None:
        specs = [spec_of(model, seed) for model, seed in product(entries, experiment.seeds)]
        failed = train(specs)
    else:
        specs, failed = until_decided(
            question, entries, experiment.seeds, spec_of, runs, train, emit
        )
    sittings = _profile_jobs(experiment, device, specs, runs)
    for number, job in enumerate(sittings):
        prefix = f"sitting {number + 1} of {len(sittings)}: " if len(sittings) > 1 else ""
        failed += _profiled(job, replace(how, emit=prefixed(prefix, emit)), remeasure)
    folders = [runs / spec.folder_name() for spec in specs]
    records = [run_folder.load_run(f) for f in folders if (f / run_folder.RECORD).exists()]
    profiles = [record for job in sittings for record in profiles_in(job.folder)]
    rendered = render([runs], out, stated=stated) if records or profiles else None
    return Conducted(tuple(records), tuple(profiles), rendered, tuple(failed))


def _device(experiment: Experiment, launcher: Launcher | None) -> str:
    """Return on what to compute; UserError for auto on nodes, of which nothing is known here."""
    if launcher is None or not launcher.is_remote:
        return resolve(experiment.device)
    if experiment.device == "auto":
        raise UserError("which device the nodes have is not known here: give --device cuda or cpu")
    check_name(experiment.device)
    return experiment.device


def check(experiment: Experiment, device: str) -> None:
    """Raise UserError for models, runtimes or precisions that cannot be, before data is read."""
    for model in models(experiment, None):
        checks.check_runnable(run_spec(experiment, device, model, experiment.seeds[0]))
    if experiment.profile is not None:
        check_runtimes(experiment.profile.runtimes, experiment.profile.precisions)


def models(experiment: Experiment, dataset: Dataset | None) -> list[ModelSpec]:
    """Return the experiment's models, sized for the data set once it is there."""
    known = sketch if dataset is None else partial(identify, dataset=dataset)
    return [
        known(
            entry.name,
            stem=entry.stem,
            attention=entry.attention,
            arguments=entry.arguments,
        )
        for entry in experiment.entries()
    ]


def run_spec(experiment: Experiment, device: str, model: ModelSpec, seed: int) -> RunSpec:
    """Return one run of an experiment."""
    shared = experiment.model_dump(include=SHARED)
    return validated(RunSpec, shared | {"model": model, "seed": seed, "device": device})


def _train_job(
    spec: RunSpec, runs: Path, if_unfinished: run_folder.IfUnfinished, digest: str
) -> TrainJob:
    """Return the job for a run; one that failed, or was handed over, goes on unasked."""
    job = TrainJob(spec, if_unfinished, runs, digest)
    if if_unfinished == "refuse" and (failures(job.folder) or is_handed_over(job.folder)):
        return replace(job, if_unfinished="resume")
    return job


@dataclass(frozen=True)
class _How:
    """How jobs are done: here one after the other, or by a launcher."""

    emit: EmitNews
    timeout_s: float | None
    launcher: Launcher | None
    retries: int


def _trained(jobs: Sequence[TrainJob], dataset: Dataset, how: _How) -> list[JobFailed]:
    """Train runs, or find them finished; return those that have no record, and why."""
    failed, to_do = [], []
    for job in jobs:
        is_finished = (job.folder / run_folder.RECORD).exists()
        if how.launcher is not None and (goes_on(job.folder, how.launcher) or not is_finished):
            to_do.append(job)  # told after what is finished: these are done at the same time
            continue
        if not is_finished:
            failed += _done([job], how)
            continue
        try:
            record = run_folder.load_finished(job.folder, dataset)
        except UserError as error:
            failed.append(JobFailed(job.name, str(error), str(job.folder / run_folder.RECORD)))
            how.emit(failed[-1])
        else:
            how.emit(RunDone(record, str(job.folder), reused=True))
    return failed + _done(to_do, how)


def _profile_jobs(
    experiment: Experiment, device: str, specs: Iterable[RunSpec], runs: Path
) -> list[ProfileJob]:
    """Return the sittings that each profile the models of all runs, with their weights."""
    if experiment.profile is None:
        return []
    run_ids: dict[ModelSpec, str] = {}
    weights: dict[ModelSpec, str] = {}
    for run in specs:  # of several seeds the first that left weights
        path = runs / run.folder_name() / run_folder.WEIGHTS
        run_ids.setdefault(run.model, run.folder_name())
        if run.model not in weights and path.is_file():
            run_ids[run.model], weights[run.model] = run.folder_name(), str(path)
    test = TestSpec(data=experiment.data, recipe=experiment.recipe)
    subjects = Subjects(tuple(run_ids), weights, run_ids, test)
    options = experiment.profile.model_dump(exclude={"repeat"}) | {"device": device}
    job = profile_job(subjects, options)
    times = experiment.profile.repeat
    series = {"series": job.spec.digest()} if times > 1 else {}
    sittings = [job.spec.model_copy(update=series | {"seed": n}) for n in range(times)]
    return [replace(job, spec=s, alone=True, out=runs / PROFILES / s.digest()) for s in sittings]


def _profiled(job: ProfileJob, how: _How, remeasure: bool) -> list[JobFailed]:
    """Do a sitting unless it was finished before, or is to be measured again; say why it is not.

    One that was cut short is repeated as a whole, because rows of different sittings have not
    taken turns. So is one that other work starved, `MAX_SITTINGS` times in all at most; its records
    stay beside the new ones under a name that no report reads.
    """
    if how.launcher is not None and goes_on(job.folder, how.launcher):
        _done([job], how, exclusive=True)
    if remeasure:
        put_aside(job.folder, profiles_in(job.folder))
    for number in range(MAX_SITTINGS):
        found = profiles_in(job.folder)
        starved = [record for record in found if record.noise and record.noise.starved]
        if is_complete(job.spec, found) and (not starved or number == 0):
            return []  # what an earlier command left is only measured again on demand
        if starved:
            put_aside(job.folder, found)
        failed = _done([job], how, exclusive=True)
        if failed:
            return failed
    return []


def _done(
    jobs: Sequence[TrainJob | ProfileJob], how: _How, *, exclusive: bool = False
) -> list[JobFailed]:
    """Do jobs; those that fail are recorded, told, and returned."""
    if how.launcher is not None:
        return carry_out_all(
            jobs,
            how.launcher,
            how.emit,
            retries=how.retries,
            timeout_s=how.timeout_s,
            exclusive=exclusive,
        )
    return [failed for job in jobs if (failed := _done_here(job, how)) is not None]


def _done_here(job: TrainJob | ProfileJob, how: _How) -> JobFailed | None:
    """Do a job in a process of this machine; return why it failed."""
    reason = None
    for _ in range(1 + how.retries):
        with journal(job.folder, how.emit) as tell:
            ended = carry_out(job, tell, how.timeout_s)
            tell(JobEnded(ended.code, ended.reason, ended.wall_s, ended.last_lines))
        reason = ended.reason
        if reason is None:
            archive_failures(job.folder)
            return None
        job = resumed(job)
    assert reason is not None, "it was tried at least once"
    failure = Failure(
        id=job.name,
        reason=reason,
        created_at=utc_now(),
        wall_s=ended.wall_s,
        last_lines=ended.last_lines,
    )
    failed = JobFailed(job.name, reason, str(write_failure(job.folder, failure)))
    how.emit(failed)
    return failed
