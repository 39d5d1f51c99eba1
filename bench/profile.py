"""Measure what models cost: from a `ProfileSpec` to one record a row, in one sitting.

    models ──► cost without a clock          machine ──► roofline, noise
           ──► for each mode, precision and batch size: the models in all runtimes
               ──► parity with eager fp32 ──► memory, in fresh processes
               ──► timed in turns ──► energy, parts of a step, where the time goes ──► records

Rows of a group are timed in turns, so that their ratios hold although the machine drifts. What a
device cannot run, runs wrong or has no memory for is a record with its reason.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from bench import device as devices
from bench import energy, noise, parity, roofline, runtime, stats, timing, workload
from bench.breakdown import break_down
from bench.candidate import Build, Candidate, Count, build_timed, candidate
from bench.environment import collect, utc_now
from bench.errors import UserError
from bench.memory import MemoryJob, MemoryServer, ran_out
from bench.record import (
    Environment,
    MachineFacts,
    MemoryFacts,
    NoiseFacts,
    ProfileRecord,
    TimingFacts,
)
from bench.spec import Mode, ModelSpec, Precision, ProfileSpec, Scenario
from bench.workload import Workload

AUTO_START = {"cpu": 256, "cuda": 1024, "mps": 1024}
DEVICE_SAMPLES = 5


@dataclass(frozen=True)
class Progress:
    """What a sitting is doing: a stage of one row, and how much of its time is used up."""

    stage: str
    row: str
    fraction: float
    group: int
    num_groups: int


@dataclass(frozen=True)
class Group:
    """What the rows that take turns have in common; ``wanted`` is what was asked for."""

    mode: Mode
    precision: Precision
    batch_size: int
    wanted: str | None = None


@dataclass(frozen=True)
class Row:
    """One model in one runtime."""

    model: ModelSpec
    runtime: str

    def __str__(self) -> str:
        return f"{self.model.name} {self.runtime}"


@dataclass(frozen=True)
class Prepared:
    """A row's outcome before timing: the workload, and unless ``ok`` why it is not timed."""

    load: Workload | None
    status: Literal["ok", "unsupported", "wrong", "out_of_memory"] = "ok"
    reason: str | None = None
    memory: MemoryFacts | None = None


@dataclass(frozen=True)
class Sitting:
    """What all records of one process share."""

    spec: ProfileSpec
    environment: Environment
    candidates: Mapping[ModelSpec, Candidate]
    machine: MachineFacts
    server: MemoryServer | None
    tell: Callable[[str, object, float, int], None]
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def device(self) -> str:
        return self.spec.device


def profile(
    spec: ProfileSpec,
    *,
    build: Build,
    count: Count,
    run_ids: Mapping[ModelSpec, str] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_warning: Callable[[str], None] = lambda warning: None,
    server: MemoryServer | None = None,
) -> Iterator[ProfileRecord]:
    """Yield one record for each model, precision, runtime, mode, batch size and scenario.

    ``build`` returns a model on the CPU and ``count`` its cost of one image. Records come as soon
    as their group is timed; ending the iteration early loses nothing of what came before.
    ``on_warning`` is told before anything is timed what makes the machine noisy. A ``server``
    that was started earlier saves the seconds in which it gets ready. On a CPU freed memory is kept
    until the iterator ends or is closed (`bench.heap`).
    """
    check(spec)
    num_groups = len(groups(spec))

    def tell(stage: str, row: object, fraction: float, number: int = 0) -> None:
        on_progress(Progress(stage, str(row), fraction, number, num_groups))

    with contextlib.ExitStack() as stack:
        if spec.memory and server is None:
            server = stack.enter_context(MemoryServer())
        devices.prepare(spec.device)
        networks = {}
        for model in spec.models:
            tell("building", model.name, 0.0)
            networks[model] = build_timed(model, build)
        if server:  # works while this process counts, in one thread: two pools would wait in turns
            server.expect(expected_jobs(spec))
            torch.set_num_threads(1)
        candidates = {}
        for model, (network, load_s) in networks.items():
            tell("counting", model.name, 0.0)
            run_id = (run_ids or {}).get(model)
            candidates[model] = candidate(model, network, load_s, count, run_id)
        if server:
            tell("measuring memory", "", 0.0)
            server.wait()
            devices.prepare(spec.device)
        stack.enter_context(devices.keeping_freed(spec.device, wanted=spec.keep_freed))
        for warning in noise.warnings(noise.glance(devices.gpu_uuid(spec.device))):
            on_warning(warning)
        tell("measuring", "the machine", 0.0)
        machine = roofline.measure(spec.device, spec.precisions, workload.clock_of(spec.device))
        environment = collect(spec.device)
        sitting = Sitting(spec, environment, candidates, machine, server, tell)
        for number, group in enumerate(groups(spec)):
            yield from profile_group(sitting, group, number)
            runtime.forget_compiled()
            devices.release_memory(spec.device)


def check(spec: ProfileSpec) -> None:
    """Raise UserError for what no row could be measured with."""
    runtime.check(spec.runtimes)
    fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    if devices.kind(spec.device) == "mps" and fallback not in ("", "0"):
        raise UserError(
            "PYTORCH_ENABLE_MPS_FALLBACK is set: operators would run on the CPU and be timed as"
            " mps; unset it"
        )


def groups(spec: ProfileSpec) -> list[Group]:
    """Return the groups of a profile in the order in which they are measured."""
    axes = itertools.product(spec.modes, spec.precisions, spec.batch_sizes)
    start = AUTO_START[devices.kind(spec.device)]
    return [
        Group(mode, precision, start, "auto") if size == "auto" else Group(mode, precision, size)
        for mode, precision, size in axes
    ]


def is_complete(spec: ProfileSpec, records: Iterable[ProfileRecord]) -> bool:
    """Tell whether ``records`` hold every row of a sitting, timed or with the reason why not."""
    found = {_place(record) for record in records}
    wanted = itertools.product(groups(spec), rows(spec))
    return all(
        (group.mode, group.precision, group.wanted or group.batch_size, row, scenario) in found
        for group, row in wanted
        for scenario in scenarios(group)
    )


def _place(record: ProfileRecord) -> tuple[Any, ...]:
    size = record.wanted_batch_size or record.batch_size
    row = Row(record.model, record.runtime)
    return record.mode, record.precision, size, row, record.scenario


def profile_group(sitting: Sitting, group: Group, number: int) -> Iterator[ProfileRecord]:
    """Yield the records of one group: first what cannot be timed, then what was."""
    if group.wanted == "auto":
        sitting.tell("finding the batch size", "", 0.0, number)
        group = replace(group, batch_size=fitting_batch_size(sitting, group))
    with workload.computing(sitting.device, group.precision, group.mode):
        prepared = {}
        for row in rows(sitting.spec):
            sitting.tell("preparing", row, 0.0, number)
            prepared[row] = prepare_row(sitting, group, row)
        flags = devices.flags(sitting.device)  # as they are from now on: memory may have run out
        environment = sitting.environment.model_copy(update={"flags": flags})
        sitting = replace(sitting, environment=environment)
        loads = {}
        for row, outcome in prepared.items():
            if outcome.status == "ok" and outcome.load:
                loads[row] = outcome.load
            else:
                for scenario in scenarios(group):
                    yield _record(sitting, group, scenario, row, outcome)
        for scenario in scenarios(group) if loads else []:
            timed, seen = _measure(sitting, loads, scenario, number)
            for row, facts in timed.items():
                sitting.tell("examining", row, 1.0, number)
                extras = _extras(sitting, group, scenario, row, loads[row], facts)
                yield _record(
                    sitting,
                    group,
                    scenario,
                    row,
                    prepared[row],
                    timing=facts,
                    noise=seen,
                    warnings=noise.warnings(seen),
                    **extras,
                )


def rows(spec: ProfileSpec) -> list[Row]:
    """Return the rows of each group."""
    return [Row(model, name) for model in spec.models for name in spec.runtimes]


def scenarios(group: Group) -> list[Scenario]:
    """Return what is asked of a group: throughput, and for single images latency as well."""
    single = group.batch_size == 1 and group.mode == "infer"
    return ["offline", "single_stream"] if single else ["offline"]


def fitting_batch_size(sitting: Sitting, group: Group) -> int:
    """Return the largest power-of-two fraction of the start at which every model fits, or 1."""
    size = group.batch_size
    while size > 1 and not _fits(sitting, replace(group, batch_size=size)):
        size //= 2
    return size


def _fits(sitting: Sitting, group: Group) -> bool:
    """Tell whether all models run eagerly; a runtime that needs more becomes a row that says so."""
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
    able = {p: devices.precision_problem(spec.device, p) is None for p in spec.precisions}
    return [
        _job(spec, group, row)
        for group in groups(spec)
        for row in rows(spec)
        if able[group.precision]
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


def prepare_row(sitting: Sitting, group: Group, row: Row) -> Prepared:
    """Make a row ready to be timed: session, first call, parity; or find out why it is not.

    Memory is asked for first, in a process that may fail without harm; but after this process'
    first call where that compiles, since compiled code is kept on disk for the next to ask.
    """
    problem = devices.precision_problem(sitting.device, group.precision)
    if problem:
        return Prepared(None, "unsupported", problem)
    compiles = row.runtime.startswith("compile")
    memory = None if compiles else _memory(sitting, group, row)
    if isinstance(memory, str) and ran_out(memory):
        return Prepared(None, "out_of_memory", _too_large(sitting, group))
    outcome = _try(sitting, group, row)
    if compiles and outcome.load:
        memory = _memory(sitting, group, row)
    return replace(outcome, memory=memory if isinstance(memory, MemoryFacts) else None)


def _memory(sitting: Sitting, group: Group, row: Row) -> MemoryFacts | str | None:
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
    )
    make = workload.training if group.mode == "train" else workload.infer
    try:
        load = make(network, setting)
    except runtime.Unsupported as error:
        return Prepared(None, "unsupported", str(error))
    except Exception as error:  # whatever a runtime raises is a row with its reason
        if devices.is_out_of_memory(error):
            devices.release_memory(sitting.device)
            return Prepared(None, "out_of_memory", _too_large(sitting, group))
        return Prepared(None, "unsupported", first_line(error))
    problem = parity.problem(load.parity) if load.parity else None
    return Prepared(load, "wrong" if problem else "ok", problem)


def first_line(error: Exception) -> str:
    """Return an error's name and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__


def _measure(
    sitting: Sitting, loads: Mapping[Row, Workload], scenario: Scenario, number: int
) -> tuple[dict[Row, TimingFacts], NoiseFacts]:
    """Time the rows in turns, and watch what else the machine does meanwhile."""
    clock = workload.clock_of(sitting.device)
    end = noise.watch(devices.gpu_uuid(sitting.device))
    timed = timing.measure(
        {row: load.work for row, load in loads.items()},
        sitting.spec.timing,
        clock,
        scenario=scenario,
        seed=sitting.spec.seed,
        on_progress=lambda stage, row, fraction: sitting.tell(stage, row, fraction, number),
    )
    seen = end()
    occupy = devices.occupier(sitting.device)
    return {row: _completed(facts, loads[row], clock, occupy) for row, facts in timed.items()}, seen


def _completed(
    facts: TimingFacts,
    load: Workload,
    clock: timing.Clock,
    occupy: Callable[[float], None] | None,
) -> TimingFacts:
    """Add what is not read from blocks: the very first call, and calls without the host's pace."""
    changes: dict[str, Any] = {
        "first_call_s": load.first_call_s,
        "compile_cached": load.compile_cached,
    }
    if occupy and facts.block_s:
        call_s = max(facts.block_s[-1] / facts.block_iters[-1], 0.0)
        queued = (
            timing.queued_call_s(load.work, clock, occupy, 2 * call_s)
            for _ in range(DEVICE_SAMPLES)
        )
        changes["device_s"] = tuple(queued)
    return facts.model_copy(update=changes)


def _extras(
    sitting: Sitting,
    group: Group,
    scenario: Scenario,
    row: Row,
    load: Workload,
    facts: TimingFacts,
) -> dict[str, Any]:
    """Measure what is no time of a call: energy, a step's parts, where the time goes."""
    if scenario != "offline":
        return {}
    clock = workload.clock_of(sitting.device)
    meter = _meter(sitting.device)
    found: dict[str, Any] = {
        "energy": energy.measure(
            load.work, group.batch_size, meter, clock, iters=facts.block_iters[-1]
        ),
        "split": load.split() if load.split else None,
    }
    wanted = sitting.spec.breakdown and _is_largest(group, sitting.spec)
    if wanted and group.mode == "infer" and row.runtime == "eager":
        how = (sitting.device, group.precision)
        images = workload.random_images(group.batch_size, row.model.image_size, seed=0)
        call_s = 1 / (stats.calls_per_s(facts.block_s, facts.block_iters) or math.inf)
        network = runtime.ready(sitting.candidates[row.model].network, *how)
        found["breakdown"] = break_down(network, runtime.adapter(*how)(images), clock, call_s)
    return found


def _is_largest(group: Group, spec: ProfileSpec) -> bool:
    """Tell whether a group has the largest batch that was asked for, which is auto if that was."""
    return (group.wanted or group.batch_size) == (
        "auto" if "auto" in spec.batch_sizes else max(map(int, spec.batch_sizes))
    )


def _meter(device: str) -> energy.Meter | str:
    uuid = devices.gpu_uuid(device)
    if uuid:
        return energy.gpu_meter(uuid)
    if device == "cpu":
        return energy.cpu_meter()
    return f"{device} has no energy counter that may be read without administrator's rights"


def _record(
    sitting: Sitting, group: Group, scenario: Scenario, row: Row, outcome: Prepared, **found: Any
) -> ProfileRecord:
    subject, load = sitting.candidates[row.model], outcome.load
    return ProfileRecord(
        id=uuid.uuid4().hex[:12],
        sitting=sitting.id,
        series=sitting.spec.series,
        group=f"{group.mode}-{group.precision}-b{group.batch_size}-{scenario}",
        status=outcome.status,
        reason=outcome.reason,
        created_at=utc_now(),
        model=row.model,
        run_id=subject.run_id,
        mode=group.mode,
        scenario=scenario,
        precision=group.precision,
        runtime=row.runtime,
        batch_size=group.batch_size,
        wanted_batch_size=group.wanted,
        spec=sitting.spec.timing,
        cost=subject.cost,
        environment=sitting.environment,
        load_s=subject.load_s,
        build_s=load.build_s if load else None,
        parity=load.parity if load else None,
        memory=outcome.memory,
        machine=sitting.machine,
        **{"timing": None, **found},
    )
