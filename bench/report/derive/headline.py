"""Choose what the main table shows: for each machine, the one setting that most models share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bench.report.read.models import model_order
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec

Machine = tuple[str, str, str]


@dataclass(frozen=True)
class Headline:
    """One row of the main table: a trained model beside its cost on one machine.

    ``cell`` is None for a model that was only profiled; ``offline`` and ``single`` are None where
    the machine's common setting was not measured for the model.
    """

    model: ModelSpec
    cell: Cell | None
    offline: CostRow | None
    single: CostRow | None

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
    return found


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
