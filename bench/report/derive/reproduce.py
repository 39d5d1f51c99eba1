"""The command that repeats a run or a profile."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.report.escape import one_line
from bench.report.read.models import arguments_text, shown
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell
from bench.spec.recipe import RECIPES, Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec


def train_command(cell: Cell) -> str:
    """Return the command that trains a cell again, its other seeds in a comment."""
    spec = cell.runs[0].record.spec
    if not spec.train:
        return _evaluate_command(spec, cell.dataset)
    options = [
        *_model(spec.model),
        *_data(spec.data, cell.dataset),
        *_recipe(spec.recipe),
        f"--device {_quoted(spec.device)}",
        *([f"--precision {spec.precision}"] if spec.precision != "fp32" else []),
        *([f"--runtime {_quoted(spec.runtime)}"] if spec.runtime != "eager" else []),
        *([f"--engine {spec.engine}"] if spec.engine != "fast" else []),
        *([f"--val-split {spec.val_split:g}"] if spec.val_split else []),
        *(["--deterministic"] if spec.deterministic else []),
        *([f"--weights {_quoted(spec.weights)}"] if spec.weights else []),
        f"--seed {cell.seeds[0]}",
    ]
    others = ", ".join(str(seed) for seed in cell.seeds[1:])
    together = f"torchrun --nproc-per-node {spec.world_size} -m bench"
    program = "senet-bench" if spec.world_size == 1 else together
    command = f"{program} train {_name(spec.model)} {' '.join(options)}"
    return f"{command}  # and --seed {others}" if others else command


def _evaluate_command(spec: RunSpec, label: str) -> str:
    """Return the command that tests weights again: a foreign model's own, or those in a file."""
    named = [] if spec.weights == "pretrained" else [f"--model {_name(spec.model)}"]
    source = _name(spec.model) if spec.weights == "pretrained" else _quoted(spec.weights or "")
    base = [] if named == [] else [f"--recipe {spec.recipe.name}"]
    options = [*named, *_model(spec.model), *_data(spec.data, label), *base]
    options += [f"--device {_quoted(spec.device)}"]
    options += [f"--precision {spec.precision}"] if spec.precision != "fp32" else []
    return f"senet-bench evaluate {source} {' '.join(options)} --out runs"


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
    names = dict.fromkeys(_name(record.model) for record in records)
    return f"senet-bench profile {' '.join(names)} {shared} {' '.join(options)}"


def _quoted(text: str) -> str:
    return shlex.quote(one_line(text))


def _model(model: ModelSpec) -> list[str]:
    """Return the options that say what the name does not: stem and attention."""
    options = [f"--stem {model.stem}"] if model.stem else []
    changed = model.attention.changes() if model.attention else {}
    flags = {"reduction": "--reduction", "divisor": "--se-divisor"} if model.se else {}
    options += [f"{flags[key]} {changed.pop(key)}" for key in flags if key in changed]
    if model.se and changed.get("bias") is False:
        del changed["bias"]
        options.append("--no-se-bias")
    if changed:
        text = ",".join(f"{key}={shown(value)}" for key, value in changed.items())
        options.append(f"--attention {_quoted(text)}")
    return options


def _name(model: ModelSpec) -> str:
    """Return the model's name with the arguments that belong behind it in brackets."""
    arguments = arguments_text(model)
    return _quoted(f"{model.name}[{arguments}]" if arguments else model.name)


def _data(data: DataSpec, label: str) -> list[str]:
    options = [f"--dataset {_quoted(data.name)}"]
    if data.name == "folder":
        options.append(f"--data-dir DATA --data-label {_quoted(label)}")
    if data.name == "folder" or ":" in data.name:
        options.append(f"--image-size {data.image_size}")
    if data.skip_bad:
        options.append("--skip-bad")
    if data.labels != "fine":
        options.append(f"--labels {data.labels}")
    if data.train_limit:
        options.append(f"--train-limit {data.train_limit}")
    if data.test_limit:
        options.append(f"--test-limit {data.test_limit}")
    return options


def _recipe(recipe: Recipe) -> list[str]:
    """Return the options for a recipe: the named one that it began as, and what was changed."""
    base = next((name for name in RECIPES if recipe.name.split("-")[0] == name), "standard")
    known = RECIPES[base].with_epochs(recipe.epochs).model_dump(exclude={"name"})
    changed = {key: value for key, value in recipe if known.get(key, value) != value}
    options = [f"--recipe {base}", f"--epochs {recipe.epochs}"]
    return options + [
        f"--set {_quoted(f'{key}={_set_value(value)}')}" for key, value in changed.items()
    ]


def _set_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
