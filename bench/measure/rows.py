"""The rows of a profile, and the groups whose rows take turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.machine import devices
from bench.record.profile import ProfileRecord
from bench.spec.profile import ProfileSpec
from bench.spec.run import ModelSpec
from bench.spec.values import Mode, Precision, Scenario

AUTO_START = {"cpu": 256, "cuda": 1024, "mps": 1024}


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
        for scenario in (*scenarios(group), *asked_scenarios(spec, group))
    )


def _place(record: ProfileRecord) -> tuple[Any, ...]:
    size = record.wanted_batch_size or record.batch_size
    row = Row(record.model, record.runtime)
    return record.mode, record.precision, size, row, record.scenario


def rows(spec: ProfileSpec) -> list[Row]:
    """Return the rows of each group."""
    return [Row(model, name) for model in spec.models for name in spec.runtimes]


def scenarios(group: Group) -> list[Scenario]:
    """Return what is asked of a group: throughput, and for single images latency as well."""
    single = group.batch_size == 1 and group.mode == "infer"
    return ["offline", "single_stream"] if single else ["offline"]


def asked_scenarios(spec: ProfileSpec, group: Group) -> list[Scenario]:
    """Return what else is asked of a group: to serve single images, and files to classes."""
    able: dict[Scenario, bool] = {
        "end_to_end": group.mode == "infer",
        "server": group.mode == "infer" and group.batch_size == 1,
    }
    return [scenario for scenario in spec.scenarios if able[scenario]]


def _is_largest(group: Group, spec: ProfileSpec) -> bool:
    """Tell whether a group has the largest batch that was asked for, which is auto if that was."""
    return (group.wanted or group.batch_size) == (
        "auto" if "auto" in spec.batch_sizes else max(map(int, spec.batch_sizes))
    )
