"""Making a row ready to be timed: batch size, memory, session, parity."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from bench.compute import parity, session
from bench.compute.int8.calibration import Calibration
from bench.machine import device_memory, numerics
from bench.measure import accuracy, workload
from bench.measure.accuracy import TestSet
from bench.measure.peak_memory import MemoryJob, MemoryServer, ran_out
from bench.measure.rows import Group, Row, groups, rows
from bench.measure.settle import Candidate
from bench.measure.workload import Workload
from bench.record.deployment import DeploymentAccuracy
from bench.record.environment import Environment
from bench.record.profile import MachineFacts, MemoryFacts
from bench.spec.profile import ProfileSpec
from bench.spec.run import ModelSpec


@dataclass(frozen=True)
class Progress:
    """What a sitting is doing: a stage of one row, and how much of its time is used up."""

    stage: str
    row: str
    fraction: float
    group: int
    num_groups: int


@dataclass(frozen=True)
class Prepared:
    """A row's outcome before timing: the workload, and unless ``ok`` why it is not timed."""

    load: Workload | None
    status: Literal["ok", "unsupported", "wrong", "out_of_memory"] = "ok"
    reason: str | None = None
    memory: MemoryFacts | None = None
    accuracy: DeploymentAccuracy | None = None


@dataclass(frozen=True)
class Sitting:
    """What all records of one process share.

    ``calibrations`` has the images that make int8, by model, and ``references`` eager fp32's logits
    of the test set, filled as they are asked for.
    """

    spec: ProfileSpec
    environment: Environment
    candidates: Mapping[ModelSpec, Candidate]
    machine: MachineFacts
    server: MemoryServer | None
    tell: Callable[[str, object, float, int], None]
    test_set: TestSet | None = None
    calibrations: Mapping[ModelSpec, Calibration] = field(default_factory=dict)
    references: dict[ModelSpec, Tensor] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def device(self) -> str:
        return self.spec.device


def fitting_batch_size(sitting: Sitting, group: Group) -> int:
    """Return the largest power-of-two fraction of the start at which every model fits, or 1."""
    size = group.batch_size
    while size > 1 and not _fits(sitting, replace(group, batch_size=size)):
        size //= 2
    return size


def _fits(sitting: Sitting, group: Group) -> bool:
    """Tell whether all models run eagerly; a runtime that needs more becomes a row that says so."""
    if group.precision == "int8":  # which eager has not
        group = replace(group, precision="fp32")
    for model in sitting.spec.models:
        job = _job(sitting.spec, group, Row(model, "eager"))
        with (
            MemoryServer()
            if sitting.server is None
            else contextlib.nullcontext(sitting.server) as server
        ):
            answer = server.ask(job)
        if isinstance(answer, str) and ran_out(answer):
            return False
    return True


def expected_jobs(spec: ProfileSpec) -> list[MemoryJob]:
    """Return the jobs that will be asked for certainly and may be done before anything else is.

    What compiles is not among them (see `prepare_row`), nor what depends on the size that fits.
    """
    able = {p: numerics.precision_problem(spec.device, p) is None for p in spec.precisions}
    return [
        _job(spec, group, row)
        for group in groups(spec)
        for row in rows(spec)
        if able[group.precision]
        and group.precision != "int8"
        and group.wanted != "auto"
        and not row.runtime.startswith("compile")
    ]


def _job(spec: ProfileSpec, group: Group, row: Row) -> MemoryJob:
    return MemoryJob(
        model=row.model,
        device=spec.device,
        precision=group.precision,
        runtime=row.runtime,
        mode=group.mode,
        batch_size=group.batch_size,
    )


def prepare_row(sitting: Sitting, group: Group, row: Row, number: int = 0) -> Prepared:
    """Make a row ready to be timed: session, first call, parity, test set; or tell why it is not.

    Memory is asked for first, in a process that may fail without harm; but after this process'
    first call where that compiles, since compiled code is kept on disk for the next to ask.
    """
    problem = numerics.precision_problem(sitting.device, group.precision)
    if problem:
        return Prepared(None, "unsupported", problem)
    compiles = row.runtime.startswith("compile")
    memory = None if compiles else _memory(sitting, group, row)
    if isinstance(memory, str) and ran_out(memory):
        return Prepared(None, "out_of_memory", _too_large(sitting, group))
    outcome = _try(sitting, group, row)
    if compiles and outcome.load:
        memory = _memory(sitting, group, row)
    outcome = replace(outcome, memory=memory if isinstance(memory, MemoryFacts) else None)
    return _tested(sitting, group, row, outcome, number)


def _tested(sitting: Sitting, group: Group, row: Row, outcome: Prepared, number: int) -> Prepared:
    """Put the whole test set through a row's session; a wrong accuracy makes the row wrong."""
    load, test_set = outcome.load, sitting.test_set
    trained = sitting.candidates[row.model].trained
    if test_set is None or not trained or load is None or load.session is None:
        return outcome
    if row.model not in sitting.references:
        sitting.tell("testing eager fp32:", row.model.name, 0.0, number)
        network = sitting.candidates[row.model].network
        sitting.references[row.model] = accuracy.reference(network, test_set, sitting.device)
    classified = accuracy.classify(
        load.session,
        test_set,
        group.batch_size,
        sitting.device,
        lambda share: sitting.tell("testing", row, share, number),
    )
    if not accuracy.is_finite(classified):
        return replace(outcome, status="wrong", reason="logits of the test set are not finite")
    found = accuracy.accuracy(classified, sitting.references[row.model], test_set)
    problem = outcome.reason or accuracy.accuracy_problem(found, group.precision)
    return replace(outcome, status="wrong" if problem else "ok", reason=problem, accuracy=found)


def _memory(sitting: Sitting, group: Group, row: Row) -> MemoryFacts | str | None:
    """Ask what a row's work needs; not for int8, whose quantiser needs more than the work."""
    if group.precision == "int8":
        return None
    return sitting.server.ask(_job(sitting.spec, group, row)) if sitting.server else None


def _too_large(sitting: Sitting, group: Group) -> str:
    return f"batch size {group.batch_size} does not fit into the memory of {sitting.device}"


def _try(sitting: Sitting, group: Group, row: Row) -> Prepared:
    network = sitting.candidates[row.model].network
    setting = workload.Setting(
        device=sitting.device,
        precision=group.precision,
        runtime=row.runtime,
        batch_size=group.batch_size,
        image_size=row.model.image_size,
        num_classes=row.model.num_classes,
        seed=sitting.spec.seed,
        calibration=sitting.calibrations.get(row.model) if group.precision == "int8" else None,
    )
    make = workload.training if group.mode == "train" else workload.infer
    try:
        load = make(network, setting)
    except session.Unsupported as error:
        return Prepared(None, "unsupported", str(error))
    except Exception as error:  # whatever a runtime raises is a row with its reason
        if device_memory.is_out_of_memory(error):
            device_memory.release_memory(sitting.device)
            return Prepared(None, "out_of_memory", _too_large(sitting, group))
        return Prepared(None, "unsupported", first_line(error))
    finally:
        numerics.flush_denormals()  # which some runtimes' sessions turn off
    problem = parity.problem(load.parity) if load.parity else None
    if load.quantization and load.quantization.int8_operators == 0:
        problem = (
            f"none of {load.quantization.operators} convolutions and linear layers computes in"
            " int8: the quantiser did nothing"
        )
    return Prepared(load, "wrong" if problem else "ok", problem)


def first_line(error: Exception) -> str:
    """Return an error's name and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
