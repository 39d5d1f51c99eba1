"""Test whatever holds weights: a run's folder, a file of weights, an artefact, a foreign model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.compute import foreign
from bench.compute.exchange.artifact import is_artifact
from bench.compute.sources import PRETRAINED
from bench.data import NORMALIZATIONS, entry
from bench.errors import UserError, unknown
from bench.events import Emit
from bench.execute.deploy.artifacts import evaluate_artifact
from bench.execute.evaluate_weights import Rescored, rescore_file, rescore_run
from bench.machine.devices import resolve
from bench.spec.model_name import parse
from bench.spec.recipe import Recipe, get_recipe
from bench.spec.run import DataSpec
from bench.spec.values import validated

# Of the data: what may differ from what a record says.
OF_PLACE = ("data_dir", "test_limit", "skip_bad")


@dataclass(frozen=True)
class EvaluateRequest:
    """What to test, and on what; None is what was not asked for.

    ``data`` holds the fields of `DataSpec` that are asked for beside ``dataset``, ``attention``
    what is asked of the model's beside its name. ``called`` says how whoever asks calls them.
    """

    source: str
    dataset: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    stem: str | None = None
    attention: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    normalization: str | None = None
    device: str = "auto"
    precision: str | None = None
    out: Path | None = None
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path | None:
        """Return where the data set is said to lie."""
        return Path(self.data["data_dir"]) if self.data.get("data_dir") else None

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise UserError for an option of these that is asked for and does not apply."""
        asked = {**self.data, **{name: getattr(self, name) for name in ALONE}}
        for name in names:
            if asked.get(name) not in (None, {}):
                raise UserError(f"{why}: {self._called(name)} does not apply")

    def _called(self, name: str) -> str:
        keys = self.attention if name == "attention" else ()  # some are options of their own
        named = next((self.called[key] for key in keys if key in self.called), None)
        return named or self.called.get(name, name)


ALONE = ("model", "stem", "dataset", "recipe", "normalization", "attention", "precision", "out")


def evaluate(request: EvaluateRequest, emit: Emit) -> Rescored:
    """Test what the request names on the whole test set, without augmentation.

    Raises UserError (or senet's ModelError) when it is not there, when it does not fit, and for
    options that do not apply to it.
    """
    if os.path.isdir(request.source):  # of any text, where Path raises
        return _run(request, emit)
    if is_artifact(request.source) and not foreign.is_model(request.source):
        return _artifact(request, emit)
    return _weights(request, emit)


def _run(request: EvaluateRequest, emit: Emit) -> Rescored:
    of_data = tuple(name for name in request.data if name not in OF_PLACE)
    own = tuple(name for name in ALONE if name != "precision")
    request.refuse(own + of_data, f"{request.source} is a run's folder")
    return rescore_run(
        Path(request.source),
        device=resolve(request.device),
        precision=request.precision,
        data_dir=request.place,
        test_limit=request.data.get("test_limit"),
        emit=emit,
    )


def _artifact(request: EvaluateRequest, emit: Emit) -> Rescored:
    """Test an artefact on the data set that is named, or else on that of its record."""
    source, data = request.source, None
    own = ("model", "stem", "precision", "attention", "out")
    request.refuse(own, f"{source} is run as it is")
    if request.dataset is None:
        of_data = tuple(name for name in request.data if name != "data_dir")
        request.refuse(of_data, f"without --dataset {source} is tested on its record's")
    else:
        data = _data(request, request.dataset, 32)
    return evaluate_artifact(Path(source), data, _recipe(request), request.place, emit)


def _weights(request: EvaluateRequest, emit: Emit) -> Rescored:
    """Test a file of weights, or a foreign model's own at the size that they are for."""
    source, model = request.source, request.model
    own = foreign.is_model(source)
    named = next((name for name in (source, model) if name and foreign.is_model(name)), None)
    size = foreign.input_size(parse(named)) if named else None
    return rescore_file(
        PRETRAINED if own else source,
        _data(request, request.dataset or "cifar10", size or 32),
        model=source if own else model,
        stem=request.stem,
        attention=request.attention,
        recipe=_recipe(request),
        device=resolve(request.device),
        precision=request.precision or "fp32",
        out=request.out,
        emit=emit,
    )


def _recipe(request: EvaluateRequest) -> Recipe | None:
    """Return the recipe that says how pixels are normalised, None where nothing was asked for."""
    if request.recipe is None and request.normalization is None:
        return None
    if request.normalization not in (None, *NORMALIZATIONS):
        raise unknown("normalization", str(request.normalization), NORMALIZATIONS)
    recipe = get_recipe(request.recipe or "standard")
    return recipe.changed(normalization=request.normalization)


def _data(request: EvaluateRequest, name: str, image_size: int) -> DataSpec:
    entry(name)
    return validated(DataSpec, {"image_size": image_size, **request.data, "name": name})
