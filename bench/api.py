"""senet-bench from Python: the same functions that the command line calls.

from bench.api import evaluate, load, profile, train

train(["se_resnet18", "timm:resnet18"], "shapes", recipe="quick", epochs=3)
profile(["se_resnet18", "timm:resnet18"], batch_sizes=(1, 64))
table = load("runs", "profiles")  # a pandas DataFrame, one row per deployment
table.sort_values("latency_ms")[["model", "stem", "top1", "latency_ms", "runtime"]]

Models are named as on the command line, with prefixes and arguments in brackets. What the command
line refuses in one line is a UserError here. Progress is shown in terminals and in notebooks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bench.events import Event
    from bench.execute.evaluate_weights import Rescored
    from bench.record.profile import ProfileRecord
    from bench.record.run import RunRecord

__all__ = ["evaluate", "load", "profile", "train"]

Attention = str | Mapping[str, Any] | None


def train(
    models: str | Sequence[str],
    dataset: str = "cifar10",
    *,
    recipe: str = "standard",
    stem: str | None = None,
    attention: Attention = None,
    weights: str | None = None,
    out: str | Path = "runs",
    progress: bool = True,
    **options: Any,
) -> list[RunRecord]:
    """Train models one after the other, test each, and return their records.

    ``options`` are the fields of `bench.spec.run.DataSpec` (data_dir, image_size, train_limit, …),
    of `bench.spec.recipe.Recipe` (epochs, lr, batch_size, …) and of `bench.spec.run.RunSpec` (seed,
    device, precision, runtime, val_split, …). A run that is finished in ``out`` is not trained
    again, one that was cut short goes on. ``weights`` are a file, or ``pretrained``: those that a
    foreign model's source has for it.

    Raises UserError (or senet's ModelError) before anything is read or written, where it can.
    """
    from bench.execute.train_models import train_models, train_request
    from bench.spec.recipe import get_recipe
    from bench.spec.run import DataSpec
    from bench.spec.values import validated

    of_data, of_recipe, of_run = _sorted_options(options)
    request = train_request(
        _listed(models),
        {**of_run, "recipe": get_recipe(recipe).changed(**of_recipe)},
        device=of_run.get("device", "auto"),
        architecture={"stem": stem, "attention": _table(attention)},
        data=validated(DataSpec, {"name": dataset, **of_data}),
        out=Path(out),
        if_unfinished="resume",
        weights=weights,
    )
    return train_models(request, _shown(progress))


def profile(
    models: str | Sequence[str],
    *,
    image_size: int = 32,
    num_classes: int = 10,
    stem: str | None = None,
    attention: Attention = None,
    weights: str | None = None,
    out: str | Path = "profiles",
    timing: Mapping[str, Any] | None = None,
    progress: bool = True,
    **axes: Any,
) -> list[ProfileRecord]:
    """Measure what models cost in one sitting, in turns, and return a record for each row.

    ``axes`` are the fields of `bench.spec.profile.ProfileSpec` (batch_sizes, runtimes, precisions,
    modes, device, memory, breakdown, seed, …), ``timing`` those of `TimingSpec` (max_s,
    rel_precision, …). ``weights`` is a file for one model, or ``pretrained``. Each record is
    written into ``out`` as soon as it is measured.

    Raises UserError (or senet's ModelError) for what cannot be measured at all.
    """
    from bench.execute import sittings, subjects

    built = {"stem": stem, "attention": _table(attention)}
    shape = subjects.Shape("shapes", None, "fine", num_classes, image_size)
    wanted = subjects.by_name(_listed(models), weights, built, shape, None)
    options = {"device": "auto", **axes}
    job = subjects.checked_profile_job(wanted, options, dict(timing or {}), Path(out))
    with _shown(progress) as emit:
        done = sittings.profile_now(job, 1, emit)
    if done.interrupted:
        raise KeyboardInterrupt
    return done.records


def evaluate(
    source: str | Path,
    dataset: str | None = None,
    *,
    model: str | None = None,
    stem: str | None = None,
    attention: Attention = None,
    recipe: str | None = None,
    normalization: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **data_options: Any,
) -> Rescored:
    """Test saved weights on a test set: top-1, top-5 and loss, without augmentation.

    ``source`` is a run's folder, which knows its model and data (data_dir and test_limit may be
    given); a weights file, with ``model`` unless this project wrote it; or a foreign model with
    weights of its own, such as ``timm:resnet50.a1_in1k``. ``data_options`` are fields of
    `bench.spec.run.DataSpec`. With ``out`` a record is kept there, which reports read.

    Raises UserError (or senet's ModelError) when the weights are not there or do not fit.
    """
    from bench.execute.evaluate_source import EvaluateRequest
    from bench.execute.evaluate_source import evaluate as test

    request = EvaluateRequest(
        str(source),
        dataset=dataset,
        data=data_options,
        model=model,
        stem=stem,
        attention=_table(attention),
        recipe=recipe,
        normalization=normalization,
        device=device,
        precision=precision,
        out=Path(out) if out else None,
    )
    with _shown(progress) as emit:
        return test(request, emit)


def load(*folders: str | Path, price_per_hour: float | None = None) -> pd.DataFrame:
    """Return all records in and below ``folders`` as one table, the rows of results.csv.

    One row per model × device × precision × runtime × mode × scenario × batch size, accuracy and
    cost joined on the model; `bench/report/COLUMNS.md` says what each column means and its unit.
    What was not measured is ``<NA>``. ``price_per_hour`` of the profiled machine fills
    ``price_per_million``.

    Raises UserError when a folder is not there, or when there is no usable record in any.
    """
    from bench.report.read.load import load as read
    from bench.report.read.study import study
    from bench.report.table.rows import frame

    return frame(study(read([Path(folder) for folder in folders]), price_per_hour))


def _listed(models: str | Sequence[str]) -> list[str]:
    """Return the names, each once; UserError where there is none."""
    from bench.errors import UserError

    names = list(dict.fromkeys([models] if isinstance(models, str) else models))
    if not names:
        raise UserError("name at least one model")
    return names


def _table(attention: Attention) -> dict[str, Any]:
    """Return the options of an attention that is given as a text or as a mapping."""
    from bench.spec.model_name import table

    if isinstance(attention, str):
        return table(attention, first="kind")
    return dict(attention or {})


def _sorted_options(options: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the options of the data, of the recipe and of the run; UserError for others."""
    from bench.errors import unknown
    from bench.spec.recipe import Recipe
    from bench.spec.run import DataSpec, RunSpec

    owned = {"name", "preprocessing", "model", "data", "recipe", "train", "world_size"}
    owned |= {"weights", "weights_sha256"}
    homes = [spec.model_fields.keys() - owned for spec in (DataSpec, Recipe, RunSpec)]
    for option in options:
        if not any(option in home for home in homes):
            raise unknown("option", option, sorted(set().union(*homes)))
    return tuple({k: v for k, v in options.items() if k in home} for home in homes)


@contextlib.contextmanager
def _shown(progress: bool) -> Iterator[Callable[[Event], None]]:
    """Show progress on stderr, as the command line does, or nothing."""
    from bench.cli.screens.screen import screen, silence

    with screen(stderr=True) if progress else silence() as emit:
        yield emit
