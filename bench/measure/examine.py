"""What is measured of a row beside its time: device seconds, energy, where the time goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bench.compute import session
from bench.machine import devices
from bench.machine.clock import occupier
from bench.measure import workload
from bench.measure.clock import Clock, queued_call_s
from bench.measure.prepare import Sitting
from bench.measure.resources import energy
from bench.measure.resources.breakdown import break_down
from bench.measure.rows import is_largest
from bench.measure.workload import Workload
from bench.record.profile import TimingFacts
from bench.spec.profile import RowSpec
from bench.spec.values import Scenario
from bench.stats import times

DEVICE_SAMPLES = 5


def _completed(
    facts: TimingFacts,
    load: Workload,
    clock: Clock,
    occupy: Callable[[float], None] | None,
) -> TimingFacts:
    """Add what is not read from blocks: the very first call, and calls without the host's pace."""
    changes: dict[str, Any] = {
        "first_call_s": load.first_call_s,
        "compile_cached": load.compile_cached,
    }
    if occupy and facts.block_s:
        call_s = max(facts.block_s[-1] / facts.block_iters[-1], 0.0)
        queued = [
            queued_call_s(load.work, clock, occupy, 2 * call_s) for _ in range(DEVICE_SAMPLES)
        ]
        whole = tuple(seconds for seconds in queued if seconds is not None)
        changes["device_s"] = whole if len(whole) == len(queued) else None
    return facts.model_copy(update=changes)


def _extras(
    sitting: Sitting,
    row: RowSpec,
    scenario: Scenario,
    load: Workload,
    facts: TimingFacts,
) -> dict[str, Any]:
    """Measure what is no time of a call: energy, a step's parts, where the time goes."""
    if scenario != "offline":
        return {}
    clock = workload.clock_of(row.device)
    meter = _meter(row.device)
    found: dict[str, Any] = {
        "energy": energy.measure(
            load.work, row.batch_size, meter, clock, iters=facts.block_iters[-1]
        ),
        "split": load.split() if load.split else None,
    }
    wanted = sitting.spec.breakdown and is_largest(row, sitting.spec)
    if wanted and row.mode == "infer" and row.runtime == "eager":
        how = (row.device, row.precision)
        images = workload.random_images(row.batch_size, row.model.image_size, seed=0)
        call_s = 1 / (times.calls_per_s(facts.block_s, facts.block_iters) or math.inf)
        network = session.ready(sitting.candidates[row.model].network, *how)
        inputs = session.adapter(*how)(images)
        found["breakdown"] = break_down(network, inputs, clock, call_s, occupier(row.device))
    return found


def _meter(device: str) -> energy.Meter | str:
    uuid = devices.gpu_uuid(device)
    if uuid:
        return energy.gpu_meter(uuid)
    if device == "cpu":
        return energy.cpu_meter()
    return f"{device} has no energy counter that may be read without administrator's rights"
