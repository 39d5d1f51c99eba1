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
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bench.compute import compiler, inference
from bench.compute.int8.calibration import Calibration, from_noise, from_training
from bench.errors import UserError
from bench.events import Profiling
from bench.machine import device_memory, devices, noise, numerics
from bench.machine.clock import occupier
from bench.machine.environment import collect, utc_now
from bench.measure import timing, workload
from bench.measure.accuracy import TestSet
from bench.measure.examine import _completed, _extras
from bench.measure.prepare import (
    Prepared,
    Sitting,
    expected_rows,
    fitting_batch_size,
    prepare_row,
)
from bench.measure.resources import roofline
from bench.measure.resources.peak_memory import MemoryServer
from bench.measure.rows import TurnGroup, asked_scenarios, groups, scenarios
from bench.measure.scenarios.ask import ask
from bench.measure.settle import Build, Candidate, Count, build_timed, candidate
from bench.measure.workload import Workload
from bench.record.profile import NoiseFacts, ProfileRecord, TimingFacts
from bench.spec.profile import ProfileSpec, RowSpec
from bench.spec.run import ModelSpec
from bench.spec.values import Scenario


def profile(
    spec: ProfileSpec,
    *,
    build: Build,
    count: Count,
    run_ids: Mapping[ModelSpec, str] | None = None,
    on_progress: Callable[[Profiling], None] = lambda progress: None,
    on_warning: Callable[[str], None] = lambda warning: None,
    server: MemoryServer | None = None,
    test_set: TestSet | None = None,
    trained: Collection[ModelSpec] = (),
) -> Iterator[ProfileRecord]:
    """Yield one record for each model, precision, runtime, mode, batch size and scenario.

    ``build`` returns a model on the CPU and ``count`` its cost of one image. Records come as soon
    as their group is timed; ending the iteration early loses nothing of what came before.
    ``on_warning`` is told before anything is timed what makes the machine noisy. A ``server``
    that was started earlier saves the seconds in which it gets ready. On a CPU freed memory is kept
    until the iterator ends or is closed (`bench.machine.heap`). With a ``test_set`` the sessions of
    the ``trained`` models classify all of it, and int8 is calibrated on its training split.
    """
    check(spec)
    calibrations = calibrated(spec, test_set, trained)
    num_groups = len(groups(spec))

    def tell(stage: str, row: object, fraction: float, number: int = 0) -> None:
        on_progress(Profiling(stage, str(row), fraction, number, num_groups))

    with contextlib.ExitStack() as stack:
        if spec.memory and server is None:
            server = stack.enter_context(MemoryServer())
        numerics.prepare(spec.device)
        candidates = _candidates(spec, build, count, run_ids or {}, trained, server, tell)
        stack.enter_context(device_memory.keeping_freed(spec.device, wanted=spec.keep_freed))
        for warning in noise.warnings(noise.glance(devices.gpu_uuid(spec.device))):
            on_warning(warning)
        tell("measuring", "the machine", 0.0)
        machine = roofline.measure(spec.device, spec.precisions, workload.clock_of(spec.device))
        environment = collect(spec.device)
        tested = test_set if spec.accuracy else None
        sitting = Sitting(
            spec, environment, candidates, machine, server, tell, tested, calibrations
        )
        for number, group in enumerate(groups(spec)):
            yield from profile_group(sitting, group, number)
            compiler.forget_compiled()
            device_memory.release_memory(spec.device)


def _candidates(
    spec: ProfileSpec,
    build: Build,
    count: Count,
    run_ids: Mapping[ModelSpec, str],
    trained: Collection[ModelSpec],
    server: MemoryServer | None,
    tell: Callable[[str, object, float], None],
) -> dict[ModelSpec, Candidate]:
    """Build and count the models, while the server measures what it can be asked by now."""
    networks = {}
    for model in spec.models:
        tell("building", model.name, 0.0)
        networks[model] = build_timed(model, build)
    if server:  # works while this process counts, in one thread: two pools would wait in turns
        server.expect(expected_rows(spec))
        torch.set_num_threads(1)
    candidates = {}
    for model, (network, load_s) in networks.items():
        tell("counting", model.name, 0.0)
        known, run_id = model in trained, run_ids.get(model)
        candidates[model] = candidate(model, network, load_s, count, run_id, trained=known)
    if server:
        tell("measuring memory", "", 0.0)
        server.wait()
        numerics.prepare(spec.device)
    return candidates


def calibrated(
    spec: ProfileSpec, test_set: TestSet | None, trained: Collection[ModelSpec]
) -> dict[ModelSpec, Calibration]:
    """Return the images that make int8 of each model; UserError where there are too few.

    An untrained model is calibrated on noise: only its cost is asked for. Trained weights are not:
    what int8 made of them would say nothing of them.
    """
    if "int8" not in spec.precisions:
        return {}
    number, seed = spec.calibration_images, spec.calibration_seed
    if any(model in trained for model in spec.models) and test_set is None:
        raise UserError("int8 is calibrated on training images: give --dataset (and --data-dir)")
    drawn = None
    if test_set is not None:
        drawn = from_training(test_set.dataset, test_set.normalization, number, seed)
    return {
        model: drawn if drawn and model in trained else from_noise(model.image_size, number, seed)
        for model in spec.models
    }


def check(spec: ProfileSpec) -> None:
    """Raise UserError for what no row could be measured with."""
    inference.check(spec.runtimes, spec.precisions)
    for model in spec.models:
        if model.in_channels != 3:
            raise UserError(
                f"{model.name} takes images of {model.in_channels} channels; only those of 3"
                " can be profiled"
            )
    fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    if devices.kind(spec.device) == "mps" and fallback not in ("", "0"):
        raise UserError(
            "PYTORCH_ENABLE_MPS_FALLBACK is set: operators would run on the CPU and be timed as"
            " mps; unset it"
        )


def profile_group(sitting: Sitting, group: TurnGroup, number: int) -> Iterator[ProfileRecord]:
    """Yield the records of one group: first what cannot be timed, then what was."""
    if group[0].wanted == "auto":
        sitting.tell("finding the batch size", "", 0.0, number)
        size = fitting_batch_size(sitting, group)
        group = tuple(row.changed(batch_size=size) for row in group)
    device = sitting.spec.device
    with workload.computing(device, group[0].precision, group[0].mode):
        prepared = {}
        for row in group:
            sitting.tell("preparing", row, 0.0, number)
            prepared[row] = prepare_row(sitting, row, number)
        flags = numerics.flags(device)  # as they are from now on: memory may have run out
        sitting = _with_flags(sitting, flags)
        loads = {}
        for row, outcome in prepared.items():
            if outcome.status == "ok" and outcome.load:
                loads[row] = outcome.load
            else:
                for scenario in (*scenarios(row), *asked_scenarios(sitting.spec, row)):
                    yield _record(sitting, row, scenario, outcome)
        for scenario in scenarios(group[0]) if loads else []:
            timed, seen = _measure(sitting, loads, scenario, number)
            sitting = _with_flags(sitting, numerics.flags_over(flags, numerics.flags(device)))
            for row, facts in timed.items():
                sitting.tell("examining", row, 1.0, number)
                extras = _extras(sitting, row, scenario, loads[row], facts)
                yield _record(
                    sitting,
                    row,
                    scenario,
                    prepared[row],
                    timing=facts,
                    noise=seen,
                    warnings=noise.warnings(seen),
                    **extras,
                )
        for scenario, row in itertools.product(asked_scenarios(sitting.spec, group[0]), loads):
            sitting.tell(scenario.replace("_", " "), row, 1.0, number)
            outcome, found = ask(sitting, row, scenario, prepared[row])
            yield _record(sitting, row, scenario, outcome, **found)


def _with_flags(sitting: Sitting, flags: dict[str, str]) -> Sitting:
    environment = sitting.environment.model_copy(update={"flags": flags})
    return replace(sitting, environment=environment)


def _measure(
    sitting: Sitting, loads: Mapping[RowSpec, Workload], scenario: Scenario, number: int
) -> tuple[dict[RowSpec, TimingFacts], NoiseFacts]:
    """Time the rows in turns, and watch what else the machine does meanwhile."""
    device = sitting.spec.device
    clock = workload.clock_of(device)
    watched = noise.watch(devices.gpu_uuid(device))

    def tell(stage: str, row: RowSpec, fraction: float) -> None:  # called between blocks
        watched.sample()
        sitting.tell(stage, row, fraction, number)

    timed = timing.measure(
        {row: load.work for row, load in loads.items()},
        sitting.spec.timing,
        clock,
        scenario=scenario,
        seed=sitting.spec.seed,
        on_progress=tell,
    )
    seen = watched.end()
    occupy = occupier(device)
    return {row: _completed(facts, loads[row], clock, occupy) for row, facts in timed.items()}, seen


def _record(
    sitting: Sitting, row: RowSpec, scenario: Scenario, outcome: Prepared, **found: Any
) -> ProfileRecord:
    subject, load = sitting.candidates[row.model], outcome.load
    return ProfileRecord(
        id=uuid.uuid4().hex[:12],
        sitting=sitting.id,
        series=sitting.spec.series,
        group=f"{row.mode}-{row.precision}-b{row.batch_size}-{scenario}",
        status=outcome.status,
        reason=outcome.reason,
        created_at=utc_now(),
        model=row.model,
        run_id=subject.run_id,
        mode=row.mode,
        scenario=scenario,
        precision=row.precision,
        runtime=row.runtime,
        batch_size=row.batch_size,
        wanted_batch_size=row.wanted,
        spec=sitting.spec.timing,
        cost=subject.cost,
        environment=sitting.environment,
        load_s=subject.load_s,
        build_s=load.build_s if load else None,
        parity=load.parity if load else None,
        memory=outcome.memory,
        accuracy=outcome.accuracy,
        quantization=load.quantization if load else None,
        weight_bytes=load.session.weight_bytes if load and load.session else None,
        machine=sitting.machine,
        **{"timing": None, **found},
    )
