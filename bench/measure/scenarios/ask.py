"""Ask a row that is ready what its scenario asks."""

from __future__ import annotations

import itertools
from dataclasses import replace
from statistics import median
from typing import Any

from bench.measure import workload
from bench.measure.prepare import Prepared, Sitting
from bench.measure.scenarios import end_to_end, server
from bench.spec.profile import RowSpec
from bench.spec.values import Scenario

NUM_CALLS = 20  # of which the median is how long serving one image takes


def ask(
    sitting: Sitting, row: RowSpec, scenario: Scenario, outcome: Prepared
) -> tuple[Prepared, dict[str, Any]]:
    """Return a row's outcome and what the scenario found, as the fields of a record."""
    load = outcome.load
    assert load is not None, "a row that is ready has a workload"
    assert load.session is not None, "scenarios are asked of inference"
    clock = workload.clock_of(row.device)
    if scenario == "end_to_end":
        source = end_to_end.source_of(sitting.test_set, row.model.image_size)
        limit = sitting.spec.timing.max_s
        timing, facts = end_to_end.measure(load.session, source, row.batch_size, limit, clock)
        return outcome, {"timing": timing, "end_to_end": facts}
    session = load.session
    images = [workload.random_images(1, row.model.image_size, seed=seed) for seed in range(4)]
    following = itertools.cycle(images).__next__

    def serve() -> None:
        session.call(session.adapt(following())).argmax(dim=1).tolist()  # waits for the device

    times = []
    for _ in range(NUM_CALLS):
        begin = clock.read()
        serve()
        times.append(clock.read() - begin)
    service_s = median(times)
    if problem := server.rate_problem(sitting.spec.server_rate, service_s):
        return replace(outcome, status="unsupported", reason=problem), {}
    found = server.measure(
        serve,
        service_s,
        rate=sitting.spec.server_rate,
        bound_s=sitting.spec.server_bound_s,
        max_s=sitting.spec.timing.max_s,
        seed=sitting.spec.seed,
    )
    return outcome, {"server": found}
