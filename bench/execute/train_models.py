"""Train named models one after the other: from what is asked for to a record of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.compute import distributed, foreign
from bench.compute.distributed import Group
from bench.compute.model import identify, sketch, weights_facts
from bench.data import Dataset
from bench.errors import UserError
from bench.events import Emit, Warned
from bench.execute import checks, run_folder
from bench.execute import train_run as run
from bench.execute.launch.journal import journal
from bench.machine.devices import resolve
from bench.record.files import check_writable
from bench.record.run import RunRecord
from bench.spec.run import DataSpec, RunSpec
from bench.spec.values import validated


@dataclass(frozen=True)
class TrainRequest:
    """Which models to train into ``out``; ``options`` are fields of `RunSpec` that all share.

    ``architecture`` is what `identify` takes beside a model's name; every model is trained with
    each of ``seeds``, which overrule that of the options.
    """

    models: tuple[str, ...]
    architecture: Mapping[str, Any]
    data: DataSpec
    options: Mapping[str, Any]
    out: Path
    if_unfinished: run_folder.IfUnfinished = "refuse"
    weights: str | None = None
    trace: Path | None = None
    seeds: tuple[int, ...] = ()
    group: Group = distributed.ALONE

    def specs(self, dataset: Dataset | None) -> list[RunSpec]:
        """Return every run, model by model."""
        changes: list[dict[str, Any]] = [{"seed": seed} for seed in self.seeds] or [{}]
        return [self.spec(name, dataset, **change) for name in self.models for change in changes]

    def spec(self, name: str, dataset: Dataset | None, **changes: Any) -> RunSpec:
        """Return the run of a model, sized for the data set once it is there."""
        how: dict[str, Any] = {"beside": self.models, **self.architecture}
        own = {
            "model": identify(name, dataset, **how) if dataset else sketch(name, **how),
            "data": self.data,
            "world_size": self.group.world_size,
            **weights_facts(self.weights),
        }
        return validated(RunSpec, {**self.options, **own, **changes})


def train_request(
    models: list[str], options: Mapping[str, Any], *, device: str, **others: Any
) -> TrainRequest:
    """Return what to train, by all processes that were started for it.

    Raises UserError for what can be refused before data is read.
    """
    group, chosen = distributed.from_environment(), resolve(device)
    named = {**options, "device": chosen}
    request = TrainRequest(models=tuple(models), options=named, group=group, **others)
    first = request.spec(models[0], None).model
    data = foreign.prepared(request.data, first, request.weights)
    request = replace(request, data=data)
    if request.trace is not None:
        if request.trace.is_dir():
            raise UserError(f"--trace: {request.trace} is a folder; name a file in it")
        check_writable(request.trace.parent)
    for option, value in (("--trace", request.trace), ("--weights", request.weights)):
        if value is not None and len(models) > 1:
            raise UserError(f"{option} takes one model, since it names one file")
    if request.trace is not None and len(request.seeds) > 1:
        raise UserError("--trace takes one seed, since it names one file")
    for spec in request.specs(None):
        checks.check_runnable(spec)
    check_writable(request.out)
    return request


def train_models(request: TrainRequest, screen: AbstractContextManager[Emit]) -> list[RunRecord]:
    """Train, or find finished, every model; what happens is told to what ``screen`` yields.

    Raises UserError before the first training for what could not end, `Preempted` where signals
    are heeded (`bench.signals.stoppable`) and one asked for an end.
    """
    group, device = request.group, str(request.options["device"])
    with screen as emit, distributed.joined(group, device):
        dataset, data_s = distributed.local_first(group, lambda: run.load_data(request.data, emit))
        specs = request.specs(dataset)
        for spec in specs:
            checks.check_batch_size(spec, len(dataset.train))
            checks.check_weights(spec)
            if request.if_unfinished == "resume" and group.is_first:
                _note_unfinished(spec, request.out, emit)
        return [_recorded(spec, dataset, request, emit, data_s) for spec in specs]


def _recorded(
    spec: RunSpec, dataset: Dataset, request: TrainRequest, emit: Emit, data_s: float
) -> RunRecord:
    """Train one run; what happens is also written into its folder, by the first process."""
    folder, group = request.out / spec.folder_name(), request.group
    with journal(folder, emit) if group.is_first else nullcontext(emit) as tell:
        return run.train_run(
            spec,
            dataset,
            request.out,
            emit=tell,
            if_unfinished=request.if_unfinished,
            data_s=data_s,
            group=group,
            trace=request.trace,
        )


def _note_unfinished(spec: RunSpec, out: Path, emit: Emit) -> None:
    """Say that a run begins anew although one that looks like it could be continued."""
    beside = run_folder.unfinished_beside(spec, out)
    if beside:
        names = ", ".join(str(folder) for folder in beside)
        emit(
            Warned(f"{spec.folder_name()} begins anew; unfinished, and trained otherwise: {names}")
        )
