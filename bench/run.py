"""The wiring: from a specification through data, model, training and test to a record.

A run lives in a folder of its own: ``run.json`` (the record, written last),
``weights.safetensors``, ``predictions.npz`` and the newest checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic, perf_counter
from typing import Literal

import torch
from torch import Tensor, nn

import senet
from bench import checkpoint, data, evaluate, train
from bench import device as devices
from bench.environment import collect, utc_now
from bench.errors import UserError, unknown
from bench.events import EpochDone, Evaluating, Event, Preparing, RunDone, RunStarted, StepDone
from bench.folders import check_writable, sha256
from bench.record import FileFacts, RunRecord, read_record, write_record
from bench.signals import Preempted, stop_requests
from bench.spec import DataSpec, ModelSpec, RunSpec, validated
from senet.weights import PRETRAINED_PREFIX

RECORD = "run.json"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.npz"
EVAL_BATCH = 500
CHECKPOINT_EVERY_S = 60.0

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
) -> ModelSpec:
    """Return the identity of a model, sized for ``dataset`` where one is given.

    An SE model gets its defaults written out (reduction 16, FC with bias); an unknown name fails
    by listing the known ones.
    """
    if name not in senet.MODELS:
        raise unknown("model", name, senet.MODELS)
    if dataset is not None:
        num_classes, image_size = len(dataset.classes), dataset.train.images.shape[-1]
    if senet.is_se(name):
        reduction, se_bias = reduction or 16, True if se_bias is None else se_bias
    elif reduction is not None or se_bias is not None:
        raise UserError(f"{name} has no SE block: --reduction and --se-bias do not apply")
    return validated(
        ModelSpec,
        {
            "name": name,
            "stem": stem,
            "num_classes": num_classes,
            "image_size": image_size,
            "reduction": reduction,
            "se_bias": se_bias,
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
    """Raise UserError for what this machine cannot do."""
    devices.check_precision(spec.device, spec.precision)
    train.check_runtime(spec.runtime, spec.device)


def check_batch_size(spec: RunSpec, num_train: int) -> None:
    """Raise UserError when a batch is larger than the training set."""
    if spec.recipe.batch_size > num_train:
        raise UserError(
            f"batch size {spec.recipe.batch_size} is larger than the training set of"
            f" {num_train} images; choose 1 to {num_train}"
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
) -> RunRecord:
    """Train (or go on training, or find finished) one run in its folder under ``out``.

    A finished run is never trained again: its record is returned. An unfinished one is continued
    with ``resume``, thrown away with ``restart`` and a UserError otherwise. Raises `Preempted`
    when a signal asked for an end; a checkpoint is then in the folder.
    """
    check_runnable(spec)
    check_batch_size(spec, len(dataset.train))
    folder = out / spec.folder_name()
    check_writable(folder)
    if (folder / RECORD).exists():
        return _reuse(folder, dataset, emit)
    _check_unfinished(folder, existing)
    record = _train(spec, dataset, folder, emit, data_s)
    write_record(folder / RECORD, record)
    emit(RunDone(record, str(folder), reused=False))
    return record


def _reuse(folder: Path, dataset: data.Dataset, emit: Emit) -> RunRecord:
    record = load_run(folder)
    if record.dataset.digest != dataset.digest:
        raise UserError(f"{folder} was trained on other images; choose another --out")
    emit(RunDone(record, str(folder), reused=True))
    return record


def _check_unfinished(folder: Path, existing: Existing) -> None:
    if existing == "restart":
        checkpoint.remove_all(folder)
    elif existing == "refuse" and checkpoint.checkpoints(folder):
        raise UserError(f"{folder} holds an unfinished run; give --resume or --restart")


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
    spec: RunSpec, dataset: data.Dataset, folder: Path, emit: Emit, data_s: float
) -> RunRecord:
    devices.prepare(spec.device)
    environment = collect(spec.device)
    begin = perf_counter()
    model = build(spec.model, seed=spec.seed, weights=spec.weights)
    model = train.place(model, spec.device, spec.runtime)
    training = train.start(model, spec.recipe, device=spec.device, precision=spec.precision)
    build_s = perf_counter() - begin
    saver = _Saver(spec, dataset.digest, folder)
    warnings = saver.continue_from(training)
    problem = _fit(spec, dataset, training, saver, emit, warnings)
    predictions, eval_s = (None, 0.0) if problem else _test(spec, dataset, model, emit)
    problem = problem or ("the logits on the test set are not finite" if not predictions else None)
    return RunRecord(
        id=spec.folder_name(),
        status="diverged" if problem else "finished",
        reason=problem,
        created_at=utc_now(),
        spec=spec,
        dataset=data.facts(dataset),
        environment=environment,
        params=num_params(model),
        epochs=tuple(training.history),
        test=None if predictions is None else evaluate.score(predictions, len(dataset.classes)),
        weights=None if problem else _save_weights(model, folder),
        predictions=None if predictions is None else save_predictions(predictions, folder),
        data_s=data_s,
        build_s=build_s,
        eval_s=eval_s,
        checkpoint_s=saver.spent_s,
        warnings=tuple(warnings),
    )


def _fit(
    spec: RunSpec,
    dataset: data.Dataset,
    training: train.Training,
    saver: _Saver,
    emit: Emit,
    warnings: list[str],
) -> str | None:
    """Train to the end; return None, or why there is nothing to test."""
    recipe, num_train = spec.recipe, len(dataset.train)
    memory_format = train.memory_format(spec.runtime)
    split = data.place(dataset.train, spec.device, recipe.crop_padding, memory_format)
    warnings.extend([split.warning] if split.warning else [])
    num_steps = data.num_steps(num_train, recipe)
    params = num_params(training.model)
    emit(RunStarted(spec, params, num_train, num_steps, training.epoch))
    normalization = data.normalization(recipe, dataset)

    def batches(epoch: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = data.plan_epoch(num_train, recipe, spec.seed, epoch)
        return data.train_batches(
            split, plan, recipe, normalization, step, num_classes=len(dataset.classes)
        )

    with stop_requests() as stop_requested, devices.computing_in(spec.device, spec.precision):

        def save(training: train.Training) -> None:
            saver.save(training)
            if signal := stop_requested():
                at = f"epoch {training.epoch + 1}, step {training.step} of {num_steps}"
                raise Preempted(f"{signal}: stopped in {at} and saved; --resume goes on")

        try:
            for facts in train.fit(
                training,
                batches,
                recipe,
                num_steps=num_steps,
                device=spec.device,
                precision=spec.precision,
                runtime=spec.runtime,
                on_step=lambda: emit(StepDone(training.epoch + 1, training.step)),
                save_due=lambda: saver.due() or stop_requested() is not None,
                save=save,
            ):
                emit(EpochDone(facts))
        except train.Diverged as problem:
            return str(problem)
    saver.save(training, keep=1)
    return None


class _Saver:
    """Save a training now and then, so that at most a minute and one step can be lost."""

    def __init__(self, spec: RunSpec, data_digest: str, folder: Path) -> None:
        self.identity = {"run": spec.folder_name(), "data": data_digest}
        self.folder, self.device = folder, spec.device
        self.spent_s, self.saved_at = 0.0, monotonic()

    def continue_from(self, training: train.Training) -> list[str]:
        """Put the training where the newest whole checkpoint was; return what was damaged."""
        saved, problems = checkpoint.load_newest(self.folder, self.device)
        if saved is not None:
            if saved["identity"] != self.identity:
                raise UserError(f"{self.folder} was being trained on other images")
            train.restore(training, saved)
        return problems

    def due(self) -> bool:
        """Say whether a checkpoint should be written after this step."""
        return monotonic() - self.saved_at >= CHECKPOINT_EVERY_S

    def save(self, training: train.Training, keep: int = checkpoint.KEPT) -> None:
        """Write a checkpoint now, and keep that many of the newest."""
        begin = perf_counter()
        state = train.state(training) | {"identity": self.identity}
        checkpoint.save(self.folder, state, keep=keep)
        self.spent_s += perf_counter() - begin
        self.saved_at = monotonic()


def _test(
    spec: RunSpec, dataset: data.Dataset, model: nn.Module, emit: Emit
) -> tuple[evaluate.Predictions | None, float]:
    """Return the test set's predictions (None: not finite) and the seconds they took."""
    begin = perf_counter()
    try:
        predictions = predict(model, dataset, spec, emit)
    except evaluate.NotFinite:
        return None, perf_counter() - begin
    return predictions, perf_counter() - begin


def predict(
    model: nn.Module, dataset: data.Dataset, spec: RunSpec, emit: Emit
) -> evaluate.Predictions:
    """Classify the test set, unaugmented and in order, as the recipe normalises it."""
    memory_format = train.memory_format(spec.runtime)
    split = data.place(dataset.test, spec.device, memory_format=memory_format)
    normalization = data.normalization(spec.recipe, dataset)
    batches = data.test_batches(split, EVAL_BATCH, normalization)
    with devices.computing_in(spec.device, spec.precision):
        return evaluate.predict(
            model,
            _counted(batches, len(split), emit),
            device=spec.device,
            precision=spec.precision,
        )


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
