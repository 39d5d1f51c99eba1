"""The names that arguments can have, for --help and the shell: found without importing torch."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

DATASETS = ("cifar10", "cifar100", "folder", "shapes", "torchvision:", "hf:")
MOST_RUNS = 200


def registered(kind: str) -> list[str]:
    """Return the names of models or datasets that installed packages add by entry points."""
    return sorted({entry.name for entry in entry_points(group=f"senet_bench.{kind}")})


def help_of(text: str, kind: str) -> str:
    """Return an option's help, with the names that were added by entry points."""
    added = registered(kind)
    return f"{text} Added by packages: {', '.join(added)}." if added else text


def models(incomplete: str) -> list[str]:
    """Return this project's models that begin so, the plain ones before those with attention."""
    from senet.catalogue import NETWORKS, names

    every = dict.fromkeys([*NETWORKS, *names(), *registered("models")])
    return _beginning(every, incomplete)


def models_or_presets(incomplete: str) -> list[str]:
    """Return presets, TOML files and models that begin so."""
    from bench.spec.experiment import PRESETS

    files = sorted(str(path) for path in Path().glob("*.toml"))
    return [*_beginning([*PRESETS, *files], incomplete), *models(incomplete)]


def models_or_runs(incomplete: str) -> list[str]:
    """Return models and folders of runs that begin so."""
    return [*models(incomplete), *runs(incomplete)]


def datasets(incomplete: str) -> list[str]:
    """Return data sets that begin so."""
    return _beginning([*DATASETS, *registered("datasets")], incomplete)


def recipes(incomplete: str) -> list[str]:
    """Return recipes that begin so."""
    from bench.spec.recipe import RECIPES

    return _beginning(RECIPES, incomplete)


def runs(incomplete: str) -> list[str]:
    """Return folders with a run's record that begin so, those below runs/ where nothing is said."""
    start = incomplete or "runs/"
    folder = Path(start if start.endswith("/") else Path(start).parent)
    found = (path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/run.json"))
    return _beginning(sorted(map(str, found))[:MOST_RUNS], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
