"""One run: from a specification through data, model, training and test to a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from torch import nn

from bench import data
from bench.compute import distributed
from bench.compute.distributed import Group
from bench.compute.model import build, num_params
from bench.compute.training_state import Training
from bench.data.holdout import hold_out
from bench.events import Emit, EpochDone, Event, Preparing, RunDone, RunStarted, Warned
from bench.execute import lock
from bench.execute.checks import check_batch_size, check_runnable
from bench.execute.run_folder import (
    RECORD,
    IfUnfinished,
    _find,
    _save_weights,
    _take_over,
    save_predictions,
)
from bench.machine import numerics
from bench.machine.environment import collect, jobs_beside, utc_now
from bench.measure.count.cost import traced_macs
from bench.record.read_write import write_record
from bench.record.run import RunRecord, RuntimeTrial, ValidationFacts
from bench.spec.run import DataSpec, RunSpec
from bench.train import checkpoint, engine, evaluate
from bench.train.predict import _validator, predict
from bench.train.saver import Saver
from bench.train.tracing import tracing

T = TypeVar("T")


def load_data(spec: DataSpec, emit: Emit) -> tuple[data.Dataset, float]:
    """Return the data set and the seconds that it took to get; what it has against it is told."""
    begin = perf_counter()
    dataset = data.load(spec, lambda what, done, total: emit(Preparing(what, done, total)))
    for note in dataset.notes:
        emit(Warned(note))
    return dataset, perf_counter() - begin


def train_run(
    spec: RunSpec,
    dataset: data.Dataset,
    out: Path,
    *,
    emit: Emit,
    if_unfinished: IfUnfinished = "refuse",
    data_s: float = 0.0,
    group: Group = distributed.ALONE,
    trace: Path | None = None,
) -> RunRecord:
    """Train (or go on training, or find finished) one run in its folder under ``out``.

    A finished run is never trained again: its record is returned. An unfinished one is continued
    with ``resume``, thrown away with ``restart`` and a UserError otherwise. Raises `Preempted`
    when a signal asked for an end; a checkpoint is then in the folder. All processes of ``group``
    call this with the same arguments; the first one writes. A few steps are traced to ``trace``.
    """
    assert spec.world_size == group.world_size, "the run is specified for other processes"
    check_runnable(spec)
    check_batch_size(spec, len(dataset.train))
    folder = out / spec.folder_name()
    found = distributed.on_first(group, lambda: _find(folder, dataset))
    if found is None:
        with lock.held(folder, group):
            # Another process may have finished it just before this one became the writer.
            found = distributed.on_first(group, lambda: _find(folder, dataset))
            if found is None:
                distributed.on_first(group, lambda: _take_over(folder, if_unfinished))
                made = _train(spec, dataset, folder, emit, data_s, group, trace)
                record = distributed.on_first(group, lambda: _written(folder, made))
                emit(RunDone(record, str(folder), reused=False))
                return record
    emit(RunDone(found, str(folder), reused=True))
    return found


def _written(folder: Path, record: RunRecord | None) -> RunRecord:
    assert record is not None, "the first process makes the record"
    write_record(folder / RECORD, record)
    return record


def _train(
    spec: RunSpec,
    dataset: data.Dataset,
    folder: Path,
    emit: Emit,
    data_s: float,
    group: Group,
    trace: Path | None,
) -> RunRecord | None:
    """Carry a run out; return its record, which of several processes the first one makes."""
    here = spec.model_copy(update={"device": distributed.own_device(spec.device, group)})
    numerics.prepare(here.device, group.local_world_size)
    beside = jobs_beside()

    def tell(event: Event) -> None:
        if isinstance(event, EpochDone):
            beside.update(jobs_beside())
        emit(event)

    saver = Saver(spec, dataset.digest, folder, group)
    saved = saver.load()
    model, build_s = _timed(lambda: build(spec.model, seed=spec.seed, weights=spec.weights))
    job, validation = _job(here, dataset, group, saver, tell)
    with engine.computing(here):
        environment = collect(here.device)  # with the flags that are in force here
        saver.note_machine(
            saved,
            device=environment.device_name,
            threads=environment.num_threads,
            torch=environment.packages.get("torch"),
        )
        (job, found), trial_s = _timed(lambda: _choose_runtime(job, model, saved))
        engine.check_gradients(job, model)
        training = engine.start(job, model)
        saver.restore(training, saved, job.num_steps)
        problem = _fit(job, training, trace if group.is_first else None)
    predictions, eval_s, problem = _test(job, dataset, training.result, problem)
    if not group.is_first:
        return None
    if problem is None:  # until it was tested, the last state might not be a good one
        checkpoint.keep_newest(folder)
    return RunRecord(
        id=spec.folder_name(),
        status="diverged" if problem else "finished",
        reason=problem,
        created_at=utc_now(),
        spec=spec.located(),
        dataset=data.facts(dataset),
        environment=environment,
        params=num_params(model),
        macs=traced_macs(model, spec.model.image_size),
        epochs=tuple(training.history),
        test=None if predictions is None else evaluate.score(predictions, len(dataset.classes)),
        weights=None if problem else _save_weights(training.result, folder),
        predictions=None if predictions is None else save_predictions(predictions, folder),
        data_s=data_s,
        build_s=build_s,
        eval_s=eval_s,
        checkpoint_s=saver.spent_s,
        warnings=(*dataset.notes, *saver.problems),
        runtime=job.spec.runtime,
        trial=found,
        trial_s=trial_s if found else 0.0,
        compile_s=training.compile_s,
        val_s=training.val_s,
        validation=validation,
        shared_with=tuple(sorted(beside | jobs_beside())),
    ).with_target()


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    """Return what a function does and the seconds it took."""
    begin = perf_counter()
    return function(), perf_counter() - begin


def _job(
    spec: RunSpec, dataset: data.Dataset, group: Group, saver: Saver, emit: Emit
) -> tuple[engine.Job, ValidationFacts | None]:
    """Return what the engine has to do, and which images were held out for validation."""
    images, held_out, validation = hold_out(dataset.train, spec.val_split)
    job = engine.Job(
        spec,
        images,
        data.normalization(spec.recipe, dataset, spec.data.preprocessing),
        len(dataset.classes),
        group,
        saver,
        emit,
        validate=_validator(spec, dataset, held_out, group) if held_out else None,
    )
    return job, validation


def _choose_runtime(
    job: engine.Job, model: nn.Module, saved: dict[str, Any] | None
) -> tuple[engine.Job, RuntimeTrial | None]:
    """Settle what ``auto`` stands for: once for a run, so that it goes on as it began."""
    found = None
    if saved is not None:
        job = engine.with_runtime(job, saved["runtime"])
        found = RuntimeTrial.model_validate(saved["trial"]) if saved["trial"] else None
    elif job.spec.runtime == "auto":
        job, found = engine.choose_runtime(job, model)
    job.saver.facts = {
        "runtime": job.spec.runtime,
        "trial": found.model_dump() if found else None,
    }
    return job, found


def _fit(job: engine.Job, training: Training, trace: Path | None) -> str | None:
    """Train to the end; return None, or why there is nothing to test."""
    params, num_images, num_steps = num_params(training.model), len(job.images), job.num_steps
    job.emit(RunStarted(job.spec, params, num_images, num_steps, training.epoch))
    steps_left = (job.spec.recipe.epochs - training.epoch) * num_steps - training.step
    with tracing(trace, job.spec.device, steps_left) as traced:
        return engine.fit(replace(job, trace=traced), training)


"""From a batch size to all batches of a set."""


def _test(
    job: engine.Job, dataset: data.Dataset, model: nn.Module, problem: str | None
) -> tuple[evaluate.Predictions | None, float, str | None]:
    """Return the test set's predictions, the seconds they took, and why there are none."""
    if problem is not None:
        return None, 0.0, problem
    begin = perf_counter()
    try:
        predictions = predict(model, dataset, job.spec, job.emit, job.group)
    except evaluate.NotFinite:
        return None, perf_counter() - begin, "the logits on the test set are not finite"
    return predictions, perf_counter() - begin, None
