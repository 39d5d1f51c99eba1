"""A whole comparison as a TOML file: which models, data, recipe and seeds, and what to profile.

The presets are such files too, in `bench.presets`; each says how long it takes and what to expect.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bench.errors import UserError, did_you_mean
from bench.spec.model import FLAT
from bench.spec.profile import TimingSpec
from bench.spec.recipe import Recipe, get_recipe
from bench.spec.run import DataSpec
from bench.spec.values import (
    Engine,
    Frozen,
    Mode,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Seed,
    Stem,
    validated,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ModelEntry(Frozen):
    """A model of the comparison; ``stem`` overrules the experiment's ``stems`` for it.

    ``attention`` is a kind, or a table of what differs from what the name says. Keys that are not
    known here are ``arguments`` for the model's builder, as they are in brackets behind its name.
    """

    name: str
    stem: Stem | None = None
    attention: dict[str, Any] = Field(default_factory=dict)
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        own = {key: value for key, value in table.items() if key not in FLAT}
        if isinstance(own.get("attention"), str):
            own["attention"] = {"kind": own["attention"]}
        flat = {FLAT[key]: table[key] for key in FLAT if table.get(key) is not None}
        if flat:
            own["attention"] = own.get("attention", {}) | flat
        return _with_arguments(own, cls.model_fields)


# What the models of this project are built with, beside their attention.
OWN_ARGUMENTS = frozenset({"shortcut", "dropout", "num_classes", "image_size"})


def _with_arguments(table: dict[str, Any], known: Container[str]) -> dict[str, Any]:
    """Return the table with unknown keys as arguments: any of a foreign model, few of ours."""
    foreign = ":" in str(table.get("name"))
    rest = [key for key in table if key not in known and (foreign or key in OWN_ARGUMENTS)]
    if not rest:
        return table
    own = {key: value for key, value in table.items() if key not in rest}
    return own | {"arguments": own.get("arguments", {}) | {key: table[key] for key in rest}}


class ProfileEntry(Frozen):
    """What is profiled of each model; see `ProfileSpec` for the other fields.

    ``repeat`` is the number of sittings, each in a fresh process; fewer than five decide no speed.
    """

    repeat: PositiveInt = 1
    precisions: tuple[Precision, ...] = ("fp32",)
    runtimes: tuple[str, ...] = ("eager",)
    batch_sizes: tuple[PositiveInt | Literal["auto"], ...] = (1, 64)
    modes: tuple[Mode, ...] = ("infer",)
    timing: TimingSpec = TimingSpec()
    memory: bool = True
    breakdown: bool = True
    keep_freed: bool = True
    accuracy: bool = True
    calibration_images: PositiveInt = 256
    calibration_seed: Seed = 0
    scenarios: tuple[Literal["end_to_end", "server"], ...] = ()
    server_rate: PositiveFloat | None = None
    server_bound_s: PositiveFloat = 0.1


class Experiment(Frozen):
    """Every model × stem × seed is a run; every model × stem is profiled.

    ``launcher`` says who does the jobs: its name, ``on``, and the options of that one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    stems: Annotated[tuple[Stem, ...], Field(min_length=1)] = ("imagenet",)
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    device: str = "auto"
    precision: Precision = "fp32"
    runtime: str = "eager"
    engine: Engine = "fast"
    val_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_top1: Annotated[float, Field(gt=0, le=1)] | None = None
    deterministic: bool = False
    data: DataSpec = DataSpec()
    recipe: Recipe
    launcher: dict[str, int | float | bool | str] = Field(default_factory=dict)
    profile: ProfileEntry | None = ProfileEntry()

    def entries(self) -> list[ModelEntry]:
        """Return the models with their stems written out, model by model."""
        return [
            entry.model_copy(update={"stem": stem})
            for entry in self.models
            for stem in ((entry.stem,) if entry.stem else self.stems)
        ]

    def changed(
        self,
        *,
        dataset: str | None = None,
        data_dir: str | None = None,
        label: str | None = None,
        epochs: int | None = None,
        seeds: tuple[int, ...] | None = None,
        **others: Any,
    ) -> Experiment:
        """Return a validated copy with what is not None put in place.

        ``recipe`` names another one; ``lr`` and ``batch_size`` change it; the rest are fields.
        """
        name, lr = others.pop("recipe", None), others.pop("lr", None)
        recipe = get_recipe(name) if name else self.recipe
        batch_size = others.pop("batch_size", None)
        data = {"name": dataset, "data_dir": data_dir, "label": label}
        changes: dict[str, Any] = {
            "data": self.data.model_dump() | _given(data),
            "recipe": recipe.changed(epochs=epochs, lr=lr, batch_size=batch_size),
        }
        return validated(
            Experiment, self.model_dump() | changes | _given({"seeds": seeds, **others})
        )


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}


PRESETS = ("quickstart", "reference", "matched", "paper-cifar", "ablations", "rivals")
MOST_PARTS = 50
_ENDLESS_KEY = re.compile(rf"(?<![\w'\"-])(?:[\w'\"-]+[ \t]*\.[ \t]*){{{MOST_PARTS}}}")
MAX_BYTES = 2**20  # of a file; its reader takes seconds for each of them
LONGEST_NAME = 60  # letters of a comparison's name, which is a folder's


def load_experiment(source: str) -> Experiment:
    """Return the preset of that name, or what the TOML file at that path says.

    Raises UserError for an unknown name, a file that is no TOML, and for unknown keys or values
    of a wrong type, naming the key.
    """
    if source in PRESETS:
        text = resources.files("bench.presets").joinpath(f"{source}.toml").read_text("utf-8")
        return parse_experiment(text, source)
    path = Path(source)
    if path.suffix != ".toml":
        raise UserError(
            f"unknown preset {source!r}; choose {', '.join(PRESETS)}, a .toml file, or two models"
            f" or more{did_you_mean(source, PRESETS)}"
        )
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read {source}: it is no file")
        if path.stat().st_size == 0:
            raise UserError(f"cannot read {source}: it is empty")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"cannot read {source}: larger than {MAX_BYTES >> 20} MiB, so no experiment"
            )
        return parse_experiment(path.read_text(encoding="utf-8-sig"), source)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"cannot read {source}: {reason}") from None


def load_or_compare(sources: Sequence[str], dataset: str | None = None) -> Experiment:
    """Return the one preset or file that is named, or the comparison of the models that are.

    Models are compared as ``train`` trains them: recipe standard, on ``dataset`` or cifar10.
    """
    if len(sources) == 1:
        return load_experiment(sources[0])
    if files := [name for name in sources if name in PRESETS or name.endswith(".toml")]:
        raise UserError(f"{files[0]} is a comparison of its own; give it alone, or models alone")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(sources)).strip("-_.")[:LONGEST_NAME]
    table = {
        "name": name or "models",
        "models": _model_tables(list(sources)),
        "recipe": get_recipe("standard"),
        "data": {"name": dataset or "cifar10"},
    }
    return validated(Experiment, table)


def parse_experiment(text: str, source: str) -> Experiment:
    """Return the experiment in a TOML text; UserError names ``source`` and what is wrong."""
    if _ENDLESS_KEY.search(text):  # its reader takes memory by the square of the dots
        raise UserError(
            f"{source} is not an experiment: it has a key of more than {MOST_PARTS} parts"
        )
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # as for a number of 5000 digits
        raise UserError(f"{source} is not TOML: {error}") from None
    try:
        table["models"] = _model_tables(table.get("models", []))
        table["recipe"] = _recipe(table.get("recipe", {}))
        return validated(Experiment, table)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _model_tables(models: Any) -> Any:
    if not isinstance(models, list):
        return models
    return [{"name": model} if isinstance(model, str) else model for model in models]


def _recipe(table: Any) -> Recipe:
    if not isinstance(table, dict):
        raise UserError('recipe: should be a table, e.g. base = "standard"')
    base = table.get("base", "standard")
    if not isinstance(base, str):
        raise UserError(f"recipe.base: should be a string (got {base!r})")
    changes = {key: value for key, value in table.items() if key != "base"}
    try:
        return get_recipe(base).changed(**changes)
    except UserError as error:
        raise UserError(f"recipe: {error}") from None
