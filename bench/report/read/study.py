"""Group records into what a report speaks of: trained cells over seeds, and cost rows.

A `Cell` is one model trained one way on one data set; its runs differ in the seed alone. A
`CostRow` is one model on one device in one setting; its profiles are repeats in other processes.
Both are joined on `bench.spec.run.ModelSpec`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from bench.record.seeds import SeedsRecord
from bench.report.read.load import Loaded, LoadedProfile, LoadedRun, SetAside
from bench.report.read.models import model_order, versions
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec

Item = TypeVar("Item")
STARVED = "other work had too much of the machine; the row's other sittings are used"
"""A training step's work over a forward pass's: the backward pass computes two gradients."""


@dataclass(frozen=True)
class Study:
    """All cells and cost rows of a report, with what was set aside.

    ``price_per_hour`` is what an hour of the profiled machine costs, in any currency.
    """

    cells: tuple[Cell, ...]
    costs: tuple[CostRow, ...]
    set_aside: tuple[SetAside, ...]
    looked_in: tuple[str, ...]
    num_runs: int
    num_profiles: int
    price_per_hour: float | None = None
    seeds: tuple[SeedsRecord, ...] = ()

    @cached_property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """Return (label, digest) of every data set, the one with most cells first."""
        counts = Counter((cell.dataset, cell.digest) for cell in self.cells)
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """Return every model, in the order of `model_order`."""
        found = {cell.model for cell in self.cells} | {row.model for row in self.costs}
        return tuple(sorted(found, key=model_order))


def study(loaded: Loaded, price_per_hour: float | None = None, keep_starved: bool = False) -> Study:
    """Group what was loaded; the order depends on the records' content alone.

    Profiles that other work starved are left out where the same row has others, unless
    ``keep_starved`` asks for them.
    """
    cells = [
        Cell(key, tuple(sorted(runs, key=lambda r: r.record.spec.seed)), _looks(runs, loaded.seeds))
        for key, runs in _grouped(loaded.runs, _cell_key).items()
    ]
    costs = [
        CostRow(key, tuple(sorted(rows, key=lambda p: p.record.id)), price_per_hour)
        for key, rows in _grouped(loaded.profiles, _cost_key).items()
    ]
    fed = costs if keep_starved else [row.fed for row in costs]
    starved = [
        SetAside(profile.path, STARVED)
        for every, row in zip(costs, fed, strict=True)
        for profile in every.profiles
        if profile not in row.profiles
    ]
    return Study(
        cells=tuple(sorted(cells, key=lambda c: (c.dataset, model_order(c.model), c.key))),
        costs=tuple(sorted(fed, key=_cost_order)),
        set_aside=(*loaded.set_aside, *starved),
        looked_in=loaded.looked_in,
        num_runs=len(loaded.runs),
        num_profiles=len(loaded.profiles),
        price_per_hour=price_per_hour,
        seeds=loaded.seeds,
    )


def _looks(runs: Sequence[LoadedRun], records: Iterable[SeedsRecord]) -> int:
    """Return how often these seeds were looked at before it was settled that they are enough."""
    model = runs[0].record.spec.model
    looks = [
        sum(num_seeds <= len(runs) for num_seeds in record.looks) or 1
        for record in records
        if any(model in (one.first, one.second) for one in record.asked)
    ]
    return max(looks, default=0)


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _cell_key(run: LoadedRun) -> str:
    """Return what the runs of one cell share: all but the seed and the place of the data."""
    # How many images there were tells more than a limit that may limit nothing.
    limits = {"data_dir", "train_limit", "test_limit"}
    spec = run.record.spec.model_dump(mode="json", exclude={"seed": True, "data": limits})
    env = run.record.environment
    facts = {
        "spec": spec,
        "digest": run.record.dataset.digest,
        "images": [run.record.dataset.num_train, run.record.dataset.num_test],
        "label": run.record.dataset.label,
        "device_name": env.device_name,
        "freed_memory": env.freed_memory,
        "versions": versions(env),
    }
    return json.dumps(facts, sort_keys=True)


def _cost_key(profile: LoadedProfile) -> str:
    """Return what repeats of one profile share; other environments are never pooled."""
    record, env = profile.record, profile.record.environment
    facts = {
        "model": record.model.model_dump(mode="json"),
        "setting": [record.mode, record.scenario, record.precision, record.runtime],
        "batch_size": record.batch_size,
        "status": record.status,
        "machine": [env.host, env.device, env.device_name, env.driver, env.cpu_model],
        "threads": env.num_threads,
        "packages": env.packages,
        "commit": [env.commit, env.dirty],
        "flags": env.flags,
        "env": env.env,
        # with an accuracy of its own, a row is of one run's weights
        "run": [record.run_id, record.accuracy.digest] if record.accuracy else None,
    }
    return json.dumps(facts, sort_keys=True)


def _cost_order(row: CostRow) -> tuple[object, ...]:
    record, env = row.first, row.environment
    setting = (record.mode, record.scenario, record.precision, record.runtime, record.batch_size)
    return (env.device, env.device_name, model_order(row.model), setting, row.key)
