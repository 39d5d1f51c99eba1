"""The command that repeats a run or a profile."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.report.escape import one_line
from bench.report.study import Cell, CostRow
from bench.spec import RECIPES, DataSpec, ModelSpec


def train_command(cell: Cell) -> str:
    """Return the command that trains a cell again, its other seeds in a comment."""
    spec = cell.runs[0].record.spec
    options = [
        *_model(spec.model),
        *_data(spec.data, cell.dataset),
        f"--recipe {_quoted(spec.recipe.name)}",
        f"--epochs {spec.recipe.epochs}",
        *_changed(cell),
        f"--device {_quoted(spec.device)}",
        *([f"--precision {spec.precision}"] if spec.precision != "fp32" else []),
        *([f"--runtime {_quoted(spec.runtime)}"] if spec.runtime != "eager" else []),
        *([f"--weights {_quoted(spec.weights)}"] if spec.weights else []),
        f"--seed {cell.seeds[0]}",
    ]
    others = ", ".join(str(seed) for seed in cell.seeds[1:])
    command = f"senet-bench train {_quoted(spec.model.name)} {' '.join(options)}"
    return f"{command}  # and --seed {others}" if others else command


def profile_commands(rows: Sequence[CostRow]) -> list[str]:
    """Return the commands that measure rows again, one for all that took turns in one sitting."""
    sittings: defaultdict[tuple[str, ...], list[CostRow]] = defaultdict(list)
    for row in rows:
        model = row.model
        shared = [*_model(model), f"--num-classes {model.num_classes}"]
        shared += [f"--image-size {model.image_size}"]
        shared += [f"--device {_quoted(row.environment.device)}"]
        sittings[row.first.sitting, " ".join(shared)].append(row)
    commands = [_profile_command(shared, group) for (_, shared), group in sittings.items()]
    return list(dict.fromkeys(commands))


def _profile_command(shared: str, rows: Sequence[CostRow]) -> str:
    records = [row.first for row in rows]
    lists: dict[str, Iterable[object]] = {
        "--precision": dict.fromkeys(record.precision for record in records),
        "--runtime": dict.fromkeys(record.runtime for record in records),
        "--batch-size": sorted({record.batch_size for record in records}),
        "--mode": dict.fromkeys(record.mode for record in records),
    }
    options = [
        f"{name} {_quoted(','.join(str(value) for value in values))}"
        for name, values in lists.items()
    ]
    names = dict.fromkeys(_quoted(record.model.name) for record in records)
    return f"senet-bench profile {' '.join(names)} {shared} {' '.join(options)}"


def _quoted(text: str) -> str:
    return shlex.quote(one_line(text))


def _model(model: ModelSpec) -> list[str]:
    options = [f"--stem {model.stem}"]
    if model.reduction not in (None, 16):
        options.append(f"--reduction {model.reduction}")
    if model.se_bias is False:
        options.append("--no-se-bias")
    return options


def _data(data: DataSpec, label: str) -> list[str]:
    options = [f"--dataset {_quoted(data.name)}"]
    if data.name == "folder":
        options.append(f"--data-dir DATA --data-label {_quoted(label)}")
        options.append(f"--image-size {data.image_size}")
    if data.labels != "fine":
        options.append(f"--labels {data.labels}")
    if data.train_limit:
        options.append(f"--train-limit {data.train_limit}")
    if data.test_limit:
        options.append(f"--test-limit {data.test_limit}")
    return options


def _changed(cell: Cell) -> list[str]:
    """Return the options for what was changed in a named recipe."""
    recipe, known = cell.recipe, RECIPES.get(cell.recipe.name)
    options = []
    if known is None or recipe.lr != known.lr:
        options.append(f"--lr {recipe.lr:g}")
    if known is None or recipe.batch_size != known.batch_size:
        options.append(f"--batch-size {recipe.batch_size}")
    return options
