"""Data sets of uint8 images, and the pipeline that makes batches of them.

`DATASETS` is the registry: a name, the function that reads it, and its facts: to add a data set is
one function and one line there. `load` is the way in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from importlib.util import find_spec

from bench.data.augment import EpochPlan, plan_epoch
from bench.data.batches import (
    NORMALIZATIONS,
    Normalization,
    named_normalization,
    normalization,
    num_steps,
    share,
    test_batches,
    train_batches,
)
from bench.data.cifar import load_cifar
from bench.data.dataset import Dataset, Split, digest, facts, first_balanced, make_dataset
from bench.data.download import Progress
from bench.data.folder import load_folder
from bench.data.placing import DeviceSplit, place
from bench.data.published import load_hf, load_torchvision
from bench.data.shapes import load_shapes
from bench.errors import UserError, unknown
from bench.spec.run import DataSpec

__all__ = [
    "DATASETS",
    "NORMALIZATIONS",
    "Dataset",
    "DeviceSplit",
    "Entry",
    "EpochPlan",
    "Normalization",
    "Progress",
    "Split",
    "entry",
    "facts",
    "load",
    "make_dataset",
    "named_normalization",
    "normalization",
    "num_steps",
    "place",
    "plan_epoch",
    "registry",
    "share",
    "test_batches",
    "train_batches",
]

Loader = Callable[[DataSpec, Progress | None], Dataset]


@dataclass(frozen=True)
class Entry:
    """A data set's loader and its facts.

    ``what`` is told to users. ``extra`` is the optional dependency that it needs and the package
    that brings it, ``num_classes`` how many classes it has for each choice of labels; None: as many
    as are found. With ``resizes`` images become of whatever size is asked for.
    """

    load: Loader
    what: str
    num_classes: dict[str, int | None] = field(default_factory=lambda: {"fine": None})
    extra: tuple[str, str] | None = None
    resizes: bool = False


DATASETS: dict[str, Entry] = {
    "cifar10": Entry(
        load_cifar,
        "60,000 photographs of 10 classes, 32×32; downloaded once (170 MB), MD5 verified",
        {"fine": 10},
    ),
    "cifar100": Entry(
        load_cifar,
        "60,000 photographs, 32×32; 100 classes, or 20 with --labels coarse; 169 MB",
        {"fine": 100, "coarse": 20},
    ),
    "folder": Entry(
        load_folder,
        "your images: train/<class>/* and test/<class>/* (or val/) in --data-dir",
        resizes=True,
    ),
    "shapes": Entry(
        load_shapes,
        "6,000 drawn images of 10 shapes, 32×32; embedded: nothing to fetch",
        {"fine": 10},
    ),
    "torchvision:": Entry(
        load_torchvision,
        "torchvision:FashionMNIST, SVHN, STL10, Flowers102, …: downloaded by torchvision",
        resizes=True,
    ),
    "hf:": Entry(
        load_hf,
        "hf:ORG/NAME[:SPLIT] of the Hugging Face hub, or a folder that its library can read",
        extra=("hf", "datasets"),
        resizes=True,
    ),
}


ENTRY_POINTS = "senet_bench.datasets"


@functools.cache
def _add_registered() -> None:
    """Add the data sets of installed packages: an entry point names an `Entry`.

    It is done when data sets are first asked for, since those packages import this one. A name that
    is taken stays what it is; one that cannot be loaded says so where it is listed and asked for.
    """
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found = point.load()
            problem = None if isinstance(found, Entry) else f"it is no Entry but a {type(found)}"
        except (Exception, SystemExit) as error:  # whatever code of others may raise
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            told = f"entry point {point.value!r} cannot be loaded: {problem}"
            found = Entry(functools.partial(_broken, f"dataset {point.name!r}: its {told}"), told)
        DATASETS.setdefault(point.name, found)


def _broken(problem: str, spec: DataSpec, progress: Progress | None) -> Dataset:
    raise UserError(problem)


def registry() -> dict[str, Entry]:
    """Return all data sets, those of installed packages included."""
    _add_registered()
    return DATASETS


def entry(name: str) -> Entry:
    """Return what is known of a data set; UserError for an unknown one or a missing extra."""
    _add_registered()
    prefix, colon, rest = name.partition(":")
    if prefix + colon not in DATASETS or (colon and not rest):
        raise unknown("dataset", name, [f"{key}NAME" if ":" in key else key for key in DATASETS])
    found = DATASETS[prefix + colon]
    if found.extra and find_spec(found.extra[1]) is None:
        extra, package = found.extra
        raise UserError(f"{prefix}: data sets need {package}: pip install 'senet-bench[{extra}]'")
    return found


def load(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Return the data set that ``spec`` names, cut to its limits.

    The pixel statistics stay those of the whole training split, so that weights trained on a part
    of it see the same normalisation wherever they are tested.

    ``progress`` is called with what is being done, how much is done and how much there is.
    Raises UserError for an unknown name and for data that is missing or damaged.
    """
    found = entry(spec.name)
    if spec.labels not in found.num_classes:
        others = ", ".join(name for name, e in DATASETS.items() if spec.labels in e.num_classes)
        raise UserError(f"{spec.name} has no {spec.labels} labels; only {others} has")
    dataset = found.load(spec, progress)
    if spec.train_limit is None and spec.test_limit is None:
        return dataset
    train = first_balanced(dataset.train, spec.train_limit)
    test = first_balanced(dataset.test, spec.test_limit)
    notes = (*dataset.notes, *_idle_limits(spec, dataset))
    return replace(dataset, train=train, test=test, digest=digest(train, test), notes=notes)


def _idle_limits(spec: DataSpec, dataset: Dataset) -> list[str]:
    """Return what is said of limits that leave a split as it is."""
    limits = (("train", spec.train_limit, dataset.train), ("test", spec.test_limit, dataset.test))
    return [
        f"--{name}-limit {limit:,} does nothing: {dataset.label} has {len(split):,} such images"
        for name, limit, split in limits
        if limit is not None and limit > len(split)
    ]
