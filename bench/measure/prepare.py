"""Making a row ready to be timed: batch size, memory, session, parity."""

from __future__ import annotations

import contextlib
import gc
import itertools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from bench.compute import parity, session
from bench.compute.int8.calibration import Calibration
from bench.errors import first_line
from bench.machine import device_memory, devices, numerics
from bench.measure import accuracy, workload
from bench.measure.accuracy import TestSet
from bench.measure.resources.peak_memory import MemoryServer, ran_out
from bench.measure.rows import TurnGroup, groups
from bench.measure.settle import Candidate
from bench.measure.workload import Workload
from bench.record.deployment import DeploymentAccuracy
from bench.record.environment import Environment
from bench.record.profile import MachineFacts, MemoryFacts
from bench.spec.profile import ProfileSpec, RowSpec
from bench.spec.run import ModelSpec


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


def fitting_batch_size(sitting: Sitting, group: TurnGroup) -> int:
    """Return the largest power-of-two fraction of the start at which every model fits, or 1."""
    size = group[0].batch_size
    _make_room(sitting.spec.device)
    while size > 1 and not _fits(sitting, group, size):
        size //= 2
    return size


def _fits(sitting: Sitting, group: TurnGroup, size: int) -> bool:
    """Tell whether all models run eagerly; a runtime that needs more becomes a row that says so."""
    eager: dict[str, Any] = {"runtime": "eager", "batch_size": size}
    if group[0].precision == "int8":  # which eager has not
        eager["precision"] = "fp32"
    for row in dict.fromkeys(row.changed(**eager) for row in group):
        with (
            MemoryServer()
            if sitting.server is None
            else contextlib.nullcontext(sitting.server) as server
        ):
            answer = server.ask(row)
        if isinstance(answer, str) and ran_out(answer):
            return False
    return True


def expected_rows(spec: ProfileSpec) -> list[RowSpec]:
    """Return the rows whose memory will be asked for certainly, and may be before anything else.

    What compiles is not among them (see `prepare_row`), nor what depends on the size that fits.
    """
    able = {p: numerics.precision_problem(spec.device, p) is None for p in spec.precisions}
    return [
        row
        for row in itertools.chain(*groups(spec))
        if able[row.precision]
        and row.precision != "int8"
        and row.wanted != "auto"
        and not row.runtime.startswith("compile")
    ]


def prepare_row(sitting: Sitting, row: RowSpec, number: int = 0) -> Prepared:
    """Make a row ready to be timed: session, first call, parity, test set; or tell why it is not.

    Memory is asked for first, in a process that may fail without harm; but after this process'
    first call where that compiles, since compiled code is kept on disk for the next to ask.
    """
    problem = numerics.precision_problem(row.device, row.precision)
    if problem:
        return Prepared(None, "unsupported", problem)
    compiles = row.runtime.startswith("compile")
    memory = None if compiles else _memory(sitting, row)
    if isinstance(memory, str) and ran_out(memory):
        return Prepared(None, "out_of_memory", _too_large(row))
    outcome = _try(sitting, row)
    if compiles and outcome.load:
        memory = _memory(sitting, row)
    outcome = replace(outcome, memory=memory if isinstance(memory, MemoryFacts) else None)
    return _tested(sitting, row, outcome, number)


def _tested(sitting: Sitting, row: RowSpec, outcome: Prepared, number: int) -> Prepared:
    """Put the whole test set through a row's session; a wrong accuracy makes the row wrong."""
    load, test_set = outcome.load, sitting.test_set
    trained = sitting.candidates[row.model].trained
    if test_set is None or not trained or load is None or load.session is None:
        return outcome
    if row.model not in sitting.references:
        sitting.tell("testing eager fp32:", row.model.name, 0.0, number)
        network = sitting.candidates[row.model].network
        sitting.references[row.model] = accuracy.reference(network, test_set, row.device)
    classified = accuracy.classify(
        load.session,
        test_set,
        row.batch_size,
        row.device,
        lambda share: sitting.tell("testing", row, share, number),
    )
    if not accuracy.is_finite(classified):
        return replace(outcome, status="wrong", reason="logits of the test set are not finite")
    found = accuracy.accuracy(classified, sitting.references[row.model], test_set)
    problem = outcome.reason or accuracy.accuracy_problem(found, row.precision)
    return replace(outcome, status="wrong" if problem else "ok", reason=problem, accuracy=found)


def _memory(sitting: Sitting, row: RowSpec) -> MemoryFacts | str | None:
    """Ask what a row's work needs; not for int8, whose quantiser needs more than the work."""
    if row.precision == "int8":
        return None
    if sitting.server is None:
        return None
    _make_room(row.device)
    return sitting.server.ask(row)


def _make_room(device: str) -> None:
    """Give an accelerator back what rows before have left: another process may need it all.

    A CPU's memory is kept: there it is no room that is missing, and pages come back slowly.
    """
    if devices.kind(device) != "cpu":
        gc.collect()  # of what rows that failed still hold
        device_memory.release_memory(device)


def _too_large(row: RowSpec) -> str:
    return f"batch size {row.batch_size} does not fit into the memory of {row.device}"


def _try(sitting: Sitting, row: RowSpec) -> Prepared:
    network, seed = sitting.candidates[row.model].network, sitting.spec.seed
    calibration = sitting.calibrations.get(row.model) if row.precision == "int8" else None
    _make_room(row.device)
    try:
        if row.mode == "train":
            load = workload.training(network, row, seed=seed)
        else:
            load = workload.infer(network, row, seed=seed, calibration=calibration)
    except session.Unsupported as error:
        return Prepared(None, "unsupported", str(error))
    except Exception as error:  # whatever a runtime raises is a row with its reason
        if device_memory.is_out_of_memory(error):
            device_memory.release_memory(row.device)
            return Prepared(None, "out_of_memory", _too_large(row))
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
