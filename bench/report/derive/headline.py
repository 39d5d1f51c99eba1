"""Choose what the main table shows: for each machine, the one setting that most models share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.report.read.deployed import Deployment, deployments
from bench.report.read.models import model_order
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell, Measured, over_seeds
from bench.spec.run import ModelSpec
from bench.stats.luck import spread_of_shares

Machine = tuple[str, str, str]


@dataclass(frozen=True)
class Headline:
    """One row of the main table: a trained model beside its cost on one machine.

    ``cell`` is None for a model that was only profiled; ``offline`` and ``single`` are None where
    the machine's common setting was not measured for the model. ``own`` are the deployments of
    that setting with an accuracy of their own, one for each seed's weights that were timed.
    """

    model: ModelSpec
    cell: Cell | None
    offline: CostRow | None
    single: CostRow | None
    own: tuple[Deployment, ...] = ()

    @property
    def own_top1(self) -> Measured | None:
        counts = [(one.accuracy.top1_correct, one.accuracy.num_images) for one in self.own]
        return over_seeds(counts)

    @property
    def own_top5(self) -> Measured | None:
        told = [(one.accuracy.top5_correct, one.accuracy.num_images) for one in self.own]
        return over_seeds([(top5, num) for top5, num in told if top5 is not None])

    @property
    def own_seed_sd(self) -> float | None:
        """Return the standard deviation of the deployments' top-1 over seeds; None with one."""
        if len(self.own) < 2:
            return None
        return math.sqrt(spread_of_shares([one.top1.value for one in self.own]).variance)

    @property
    def row(self) -> CostRow | None:
        return self.offline or self.single

    @property
    def macs(self) -> int | None:
        """Return the multiply-accumulates of an image, from the profile or else the training."""
        return self.row.first.cost.macs if self.row else self.cell.macs if self.cell else None


def headlines(study: Study) -> list[Headline]:
    """Return the main table's rows: by data set, then by model, then by machine."""
    offline = {m: _common(rows) for m, rows in _by_machine(study, "offline").items()}
    single = {m: _single_stream(rows, offline.get(m, {})) for m, rows in _singles(study)}
    machines = sorted({*offline, *single})
    found: list[Headline] = []
    for cell in study.cells:
        found += _of(cell.model, cell, machines, offline, single)
    trained = {cell.model for cell in study.cells}
    profiled = {row.model for row in study.costs} - trained
    for model in sorted(profiled, key=model_order):
        found += [h for h in _of(model, None, machines, offline, single) if h.row]
    inferred = deployments(row for row in study.costs if row.first.mode == "infer")
    tested = sorted(inferred, key=lambda one: (one.row.created_at, one.key))
    return [replace(line, own=_own(line, tested)) for line in found]


def _own(line: Headline, tested: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Return what was tested in the line's setting and place, the last of each run of its cell.

    Without a cell, that is of the line's own rows alone: whose weights they are is not known.
    """
    if line.row is None:
        return ()
    rows = [row.key for row in (line.offline, line.single) if row is not None]
    runs = {run.record.id for run in line.cell.runs} if line.cell else None
    found = {
        one.row.first.run_id: one
        for one in tested
        if one.model == line.model
        and machine_of(one.row) == machine_of(line.row)
        and _setting(one.row)[:2] == _setting(line.row)[:2]
        and (one.key in rows if runs is None else one.row.first.run_id in runs)
    }
    return tuple(found.values())


Chosen = dict[Machine, dict[ModelSpec, CostRow]]


def _of(
    model: ModelSpec, cell: Cell | None, machines: list[Machine], offline: Chosen, single: Chosen
) -> list[Headline]:
    """Return a model's rows, one a machine; one without cost when no machine has the model."""
    found = [
        Headline(model, cell, offline.get(m, {}).get(model), single.get(m, {}).get(model))
        for m in machines
    ]
    return [h for h in found if h.row] or [Headline(model, cell, None, None)]


def machine_of(row: CostRow) -> Machine:
    """Return what makes rows those of one machine."""
    env = row.environment
    return (env.device, env.device_name, env.host)


def _by_machine(study: Study, scenario: str) -> dict[Machine, list[CostRow]]:
    machines: defaultdict[Machine, list[CostRow]] = defaultdict(list)
    for row in study.costs:
        if row.timing and row.first.mode == "infer" and row.first.scenario == scenario:
            machines[machine_of(row)].append(row)
    return machines


def _singles(study: Study) -> Iterable[tuple[Machine, list[CostRow]]]:
    return _by_machine(study, "single_stream").items()


def _setting(row: CostRow) -> tuple[str, str, int]:
    return (row.first.precision, row.first.runtime, row.first.batch_size)


def _common(rows: list[CostRow]) -> dict[ModelSpec, CostRow]:
    """Return the rows of the setting that most models share: fp32, eager, large batch on a tie."""
    models: defaultdict[tuple[str, str, int], set[ModelSpec]] = defaultdict(set)
    for row in rows:
        models[_setting(row)].add(row.model)
    best = max(models, key=lambda s: (len(models[s]), s[0] == "fp32", s[1] == "eager", s[2], s))
    return _newest(row for row in rows if _setting(row) == best)


def _single_stream(
    rows: list[CostRow], offline: dict[ModelSpec, CostRow]
) -> dict[ModelSpec, CostRow]:
    """Return the latency rows in the precision and runtime of the throughput beside them."""
    wanted = {_setting(row)[:2] for row in offline.values()}
    matching = [row for row in rows if _setting(row)[:2] in wanted]
    return _common(matching or rows) if not wanted or matching else {}


def _newest(rows: Iterable[CostRow]) -> dict[ModelSpec, CostRow]:
    """Return one row a model: where versions or commits differ, the one measured last."""
    ordered = sorted(rows, key=lambda row: (row.created_at, row.key))
    return {row.model: row for row in ordered}
