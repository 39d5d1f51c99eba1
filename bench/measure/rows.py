"""The rows of a profile, and which of them take turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from bench.machine import devices
from bench.record.profile import ProfileRecord
from bench.spec.profile import ProfileSpec, RowSpec
from bench.spec.values import Scenario

AUTO_START = {"cpu": 256, "cuda": 1024, "mps": 1024}
TurnGroup = tuple[RowSpec, ...]  # of one mode, precision and batch size


def groups(spec: ProfileSpec) -> list[TurnGroup]:
    """Return the rows of a profile, those that take turns together, in the order of measuring."""
    axes = itertools.product(spec.modes, spec.precisions, spec.batch_sizes)
    start = AUTO_START[devices.kind(spec.device)]
    return [
        tuple(
            RowSpec(
                model=model,
                device=spec.device,
                precision=precision,
                runtime=runtime,
                mode=mode,
                batch_size=start if size == "auto" else size,
                wanted="auto" if size == "auto" else None,
            )
            for model, runtime in itertools.product(spec.models, spec.runtimes)
        )
        for mode, precision, size in axes
    ]


def is_complete(spec: ProfileSpec, records: Iterable[ProfileRecord]) -> bool:
    """Tell whether ``records`` hold every row of a sitting, timed or with the reason why not."""
    found = {_place(record, record.wanted_batch_size, record.scenario) for record in records}
    return all(
        _place(row, row.wanted, scenario) in found
        for row in itertools.chain(*groups(spec))
        for scenario in (*scenarios(row), *asked_scenarios(spec, row))
    )


def _place(of: ProfileRecord | RowSpec, wanted: str | None, scenario: Scenario) -> tuple[Any, ...]:
    return of.mode, of.precision, wanted or of.batch_size, of.model, of.runtime, scenario


def scenarios(row: RowSpec) -> list[Scenario]:
    """Return what is asked of a row: throughput, and for single images latency as well."""
    single = row.batch_size == 1 and row.mode == "infer"
    return ["offline", "single_stream"] if single else ["offline"]


def asked_scenarios(spec: ProfileSpec, row: RowSpec) -> list[Scenario]:
    """Return what else is asked of a row: to serve single images, and files to classes."""
    able: dict[Scenario, bool] = {
        "end_to_end": row.mode == "infer",
        "server": row.mode == "infer" and row.batch_size == 1,
    }
    return [scenario for scenario in spec.scenarios if able[scenario]]


def is_largest(row: RowSpec, spec: ProfileSpec) -> bool:
    """Tell whether a row has the largest batch that was asked for, which is auto if that was."""
    return (row.wanted or row.batch_size) == (
        "auto" if "auto" in spec.batch_sizes else max(map(int, spec.batch_sizes))
    )
