"""The wiring: from a specification through data, model, training and test to a record.

A run lives in a folder of its own: ``run.json`` (the record, written last),
``weights.safetensors``, ``predictions.npz`` and the newest checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

import senet
from bench import baseline, checkpoint, data, distributed, engine, evaluate, lock, step
from bench import device as devices
from bench.cost import layer_macs
from bench.distributed import Group
from bench.environment import collect, utc_now
from bench.errors import UserError, unknown
from bench.events import Evaluating, Event, Preparing, RunDone, RunStarted
from bench.folders import check_writable, remove_orphans, sha256
from bench.holdout import hold_out, num_held_out
from bench.record import (
    FileFacts,
    RunRecord,
    RuntimeTrial,
    ValidationFacts,
    read_record,
    write_record,
)
from bench.saver import Saver
from bench.spec import DataSpec, ModelSpec, RunSpec, validated
from bench.state import Training
from bench.step import memory_format
from bench.tracing import tracing
from bench.train import FEWEST_IMAGES, Diverged
from senet.weights import PRETRAINED_PREFIX

RECORD = "run.json"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.npz"
EVAL_BATCH = 500

T = TypeVar("T")
Emit = Callable[[Event], None]
Existing = Literal["refuse", "resume", "restart"]


def existing(*, resume: bool, restart: bool) -> Existing:
    """Return what becomes of an unfinished run that is found; UserError for both flags."""
    if resume and restart:
        raise UserError("--resume and --restart exclude each other")
    return "resume" if resume else "restart" if restart else "refuse"


def identify(
    name: str,
    dataset: data.Dataset | None = None,
    *,
    stem: str = "imagenet",
    num_classes: int = 10,
    image_size: int = 32,
    reduction: int | None = None,
    se_bias: bool | None = None,
    se_divisor: int | None = None,
    beside: Iterable[str] = (),
) -> ModelSpec:
    """Return the identity of a model, sized for ``dataset`` where one is given.

    An SE model gets its defaults written out (reduction 16, FC with bias); an unknown name fails
    by listing the known ones. ``beside`` names the models that the options are given for: where
    one of them has SE blocks the SE options are meant for it, and a plain model does without.
    """
    if name not in senet.MODELS:
        raise unknown("model", name, senet.MODELS)
    if dataset is not None:
        num_classes, image_size = len(dataset.classes), dataset.train.images.shape[-1]
    if senet.is_se(name):
        reduction = 16 if reduction is None else reduction
        se_bias = True if se_bias is None else se_bias
        se_divisor = None if se_divisor == 1 else se_divisor
    elif any(map(senet.is_se, beside)):
        reduction = se_bias = se_divisor = None
    elif (reduction, se_bias, se_divisor) != (None, None, None):
        raise UserError(f"{name} has no SE block: --reduction and other SE options do not apply")
    return validated(
        ModelSpec,
        {
            "name": name,
            "stem": stem,
            "num_classes": num_classes,
            "image_size": image_size,
            "reduction": reduction,
            "se_bias": se_bias,
            "se_divisor": se_divisor,
        },
    )


def build(model: ModelSpec, *, seed: int = 0, weights: str | None = None) -> nn.Module:
    """Return the model on the CPU, initialised from ``seed`` alone, or loaded from ``weights``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = senet.build(
            model.name,
            stem=model.stem,
            num_classes=model.num_classes,
            reduction=model.reduction,
            se_bias=model.se_bias,
            se_divisor=model.se_divisor,
        )
    if weights is not None:
        senet.load_weights(network, weights)
    return network


def is_pretrained_name(weights: str) -> bool:
    """Say whether ``weights`` names torchvision's, to be downloaded, rather than a file."""
    return weights.startswith(PRETRAINED_PREFIX)


def weights_facts(weights: str | None) -> dict[str, str]:
    """Return the fields of a RunSpec that say which weights a model starts from."""
    if weights is None:
        return {}
    if is_pretrained_name(weights):
        return {"weights": weights, "weights_sha256": weights}
    if not Path(weights).is_file():
        raise UserError(f"weights file {weights} does not exist")
    return {"weights": weights, "weights_sha256": sha256(Path(weights))}


def check_runnable(spec: RunSpec) -> None:
    """Raise UserError for what this machine or the run's engine cannot do."""
    devices.check_precision(spec.device, spec.precision)
    step.check_runtime(spec.runtime, spec.device, spec.world_size)
    if spec.recipe.batch_size % spec.world_size:
        raise UserError(
            f"batch size {spec.recipe.batch_size} is not divisible by the {spec.world_size}"
            " processes that share it"
        )
    if spec.engine == "plain":
        baseline.check(spec)


def keeps_freed(spec: RunSpec) -> bool:
    """Tell whether freed memory is kept: not by the plain loop, which is left as people have it."""
    return spec.engine != "plain"


def check_weights(spec: RunSpec) -> None:
    """Raise UserError, or senet's ModelError, for weights that are not of the run's model."""
    if spec.weights is not None:
        build(spec.model, weights=spec.weights)


def check_batch_size(spec: RunSpec, num_train: int) -> None:
    """Raise UserError for a batch that the training set or the processes cannot share out."""
    batch_size, world_size = spec.recipe.batch_size, spec.world_size
    num_train -= num_held_out(num_train, spec.val_split)
    fewest = FEWEST_IMAGES * world_size
    if batch_size > num_train:
        raise UserError(
            f"batch size {batch_size} is larger than the training set of"
            f" {num_train} images; choose {fewest} to {num_train}"
        )
    if batch_size < fewest:
        raise UserError(
            f"batch size {batch_size} is too small: BatchNorm needs {FEWEST_IMAGES} images"
            f" a process; choose {fewest} to {num_train}"
        )


def load_data(spec: DataSpec, emit: Emit) -> tuple[data.Dataset, float]:
    """Return the data set and the seconds that it took to get."""
    begin = perf_counter()
    dataset = data.load(spec, lambda what, done, total: emit(Preparing(what, done, total)))
    return dataset, perf_counter() - begin


def train_run(
    spec: RunSpec,
    dataset: data.Dataset,
    out: Path,
    *,
    emit: Emit,
    existing: Existing = "refuse",
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
                distributed.on_first(group, lambda: _take_over(folder, existing))
                made = _train(spec, dataset, folder, emit, data_s, group, trace)
                record = distributed.on_first(group, lambda: _written(folder, made))
                emit(RunDone(record, str(folder), reused=False))
                return record
    emit(RunDone(found, str(folder), reused=True))
    return found


def _find(folder: Path, dataset: data.Dataset) -> RunRecord | None:
    """Return the record of a finished run, None when there is none."""
    if not (folder / RECORD).exists():
        check_writable(folder)
        return None
    return load_finished(folder, dataset)


def load_finished(folder: Path, dataset: data.Dataset) -> RunRecord:
    """Return the record of a run on ``dataset``; UserError for one on other images."""
    record = load_run(folder)
    if record.dataset.digest != dataset.digest:
        raise UserError(f"{folder} was trained on other images; choose another --out")
    return record


def _written(folder: Path, record: RunRecord | None) -> RunRecord:
    assert record is not None, "the first process makes the record"
    write_record(folder / RECORD, record)
    return record


def check_unfinished(folder: Path, existing: Existing) -> None:
    """Raise UserError for an unfinished run that is neither to be continued nor thrown away."""
    finished = (folder / RECORD).exists()
    if existing == "refuse" and not finished and checkpoint.checkpoints(folder):
        raise UserError(f"{folder} holds an unfinished run; give --resume or --restart")


def unfinished_beside(spec: RunSpec, out: Path) -> list[Path]:
    """Return unfinished runs of the same model and data in ``out``, if this one is yet to begin.

    A run that is to be continued with another recipe or seed is a new one, in a folder of its own.
    """
    folder = out / spec.folder_name()
    if folder.is_dir() and ((folder / RECORD).exists() or checkpoint.checkpoints(folder)):
        return []
    model = spec.model
    beside = out.glob(f"{model.name}-{model.stem}-{spec.data.name}-*/")
    return sorted(
        other
        for other in beside
        if other != folder and checkpoint.checkpoints(other) and not (other / RECORD).exists()
    )


def _take_over(folder: Path, existing: Existing) -> None:
    """Do with what an unfinished run left as ``existing`` says; the folder is this process'."""
    check_unfinished(folder, existing)
    remove_orphans(folder)
    if existing == "restart":
        checkpoint.remove_all(folder)


def load_run(folder: Path) -> RunRecord:
    """Return the record of the run in ``folder``; UserError when there is none that is whole."""
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{folder} holds no finished run (no {RECORD})")
    try:
        record = read_record(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, RunRecord):
        raise UserError(f"{path} is a {record.kind} record, not a run")
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
    devices.prepare(here.device, group.local_world_size)
    saver = Saver(spec, dataset.digest, folder, group)
    saved = saver.load()
    model, build_s = _timed(lambda: build(spec.model, seed=spec.seed, weights=spec.weights))
    job, validation = _job(here, dataset, group, saver, emit)
    kernels = devices.fixed_shapes(here.device, deterministic=spec.deterministic)
    memory = devices.keeping_freed(here.device, wanted=keeps_freed(spec))
    with devices.computing_in(here.device, here.precision), kernels, memory:
        environment = collect(here.device)  # with the flags that are in force here
        saver.note_machine(
            saved,
            device=environment.device_name,
            threads=environment.num_threads,
            torch=environment.packages.get("torch"),
        )
        (job, found), trial_s = _timed(lambda: _choose_runtime(job, model, saved))
        training = engine.start(job, model)
        saver.restore(training, saved)
        problem = _fit(job, training, trace if group.is_first else None)
    predictions, eval_s, problem = _test(job, dataset, training.result, problem)
    if not group.is_first:
        return None
    if problem is None:  # until it was tested, the last state might not be a good one
        checkpoint.keep_newest(folder, 1)
    return RunRecord(
        id=spec.folder_name(),
        status="diverged" if problem else "finished",
        reason=problem,
        created_at=utc_now(),
        spec=spec,
        dataset=data.facts(dataset),
        environment=environment,
        params=num_params(model),
        macs=layer_macs(model, spec.model.image_size),
        epochs=tuple(training.history),
        test=None if predictions is None else evaluate.score(predictions, len(dataset.classes)),
        weights=None if problem else _save_weights(training.result, folder),
        predictions=None if predictions is None else save_predictions(predictions, folder),
        data_s=data_s,
        build_s=build_s,
        eval_s=eval_s,
        checkpoint_s=saver.spent_s,
        warnings=tuple(saver.problems),
        runtime=job.spec.runtime,
        trial=found,
        trial_s=trial_s if found else 0.0,
        compile_s=training.compile_s,
        val_s=training.val_s,
        validation=validation,
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
        data.normalization(spec.recipe, dataset),
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


def _validator(
    spec: RunSpec, dataset: data.Dataset, held_out: data.Split, group: Group
) -> Callable[[nn.Module], float]:
    """Return the function that gives a model's top-1 on the images held out of training."""
    own = _own_part(held_out, group)
    normalization = data.normalization(spec.recipe, dataset)
    split = data.place(own, spec.device)

    def validate(model: nn.Module) -> float:
        try:
            predictions = _together(
                spec, model, lambda size: data.test_batches(split, size, normalization), group
            )
        except evaluate.NotFinite:
            raise Diverged("the logits on the held-out images are not finite") from None
        return evaluate.score(predictions, len(dataset.classes)).top1

    return validate


def _own_part(split: data.Split, group: Group) -> data.Split:
    """Return the images that this process classifies: every image is one process' own."""
    part = distributed.part(group, len(split))
    return data.Split(split.images[part], split.labels[part])


Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
"""From a batch size to all batches of a set."""


def _together(
    spec: RunSpec, model: nn.Module, batches: Batches, group: Group
) -> evaluate.Predictions:
    """Classify each process' own images and return all; NotFinite on all when it is on one."""
    own: evaluate.Predictions | None
    try:
        own = _classified(spec, model, batches)
    except evaluate.NotFinite:
        own = None
    parts = distributed.collect(group, own)
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise evaluate.NotFinite("the logits are not finite")
    return evaluate.join(whole)


def _classified(spec: RunSpec, model: nn.Module, batches: Batches) -> evaluate.Predictions:
    """Classify a set, in smaller batches where the device has not the memory: none depends on it.

    UserError when it has not enough for a single image.
    """
    size = EVAL_BATCH
    while size > 0:
        try:
            return evaluate.predict(
                model, batches(size), device=spec.device, precision=spec.precision
            )
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
        size //= 2
    raise UserError(f"{spec.device} has not enough memory to classify a single image")


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


def predict(
    model: nn.Module,
    dataset: data.Dataset,
    spec: RunSpec,
    emit: Emit,
    group: Group = distributed.ALONE,
) -> evaluate.Predictions:
    """Classify the test set, unaugmented and in order, as the recipe normalises it.

    Raises `evaluate.NotFinite` when a logit is not finite: there is nothing to rank.
    """
    layout = memory_format(spec.runtime)
    split = data.place(_own_part(dataset.test, group), spec.device, memory_format=layout)
    normalization = data.normalization(spec.recipe, dataset)

    def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return _counted(data.test_batches(split, size, normalization), len(split), emit)

    memory = devices.keeping_freed(spec.device, wanted=keeps_freed(spec))
    with devices.computing_in(spec.device, spec.precision), memory:
        return _together(spec, model, batches, group)


def _counted(
    batches: Iterable[tuple[Tensor, Tensor]], total: int, emit: Emit
) -> Iterator[tuple[Tensor, Tensor]]:
    done = 0
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        emit(Evaluating(done, total))


def _save_weights(model: nn.Module, folder: Path) -> FileFacts:
    senet.save_weights(model, folder / WEIGHTS)
    return FileFacts(name=WEIGHTS, sha256=sha256(folder / WEIGHTS))


def save_predictions(predictions: evaluate.Predictions, folder: Path) -> FileFacts:
    """Write the predictions into a run's folder and return name and hash."""
    evaluate.save_predictions(folder / PREDICTIONS, predictions)
    return FileFacts(name=PREDICTIONS, sha256=sha256(folder / PREDICTIONS))


def num_params(model: nn.Module) -> int:
    """Return how many trainable numbers a model has."""
    return sum(p.numel() for p in model.parameters())
