"""Data sets held whole as uint8 tensors, and the pipeline that makes batches of them.

`DATASETS` is the registry: a name and the function that reads it. `load` is the way in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.data.augment import EpochPlan, plan_epoch
from bench.data.batches import (
    Normalization,
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
from bench.data.shapes import load_shapes
from bench.errors import UserError, unknown
from bench.spec.run import DataSpec

__all__ = [
    "DATASETS",
    "DESCRIPTIONS",
    "Dataset",
    "DeviceSplit",
    "EpochPlan",
    "Normalization",
    "Progress",
    "Split",
    "facts",
    "load",
    "make_dataset",
    "normalization",
    "num_steps",
    "place",
    "plan_epoch",
    "share",
    "test_batches",
    "train_batches",
]

# What a user is told of each data set.
DESCRIPTIONS = {
    "cifar10": "60,000 photographs of 10 classes, 32×32; downloaded once (170 MB), MD5 verified",
    "cifar100": "60,000 photographs, 32×32; 100 classes, or 20 with --labels coarse; 169 MB",
    "folder": "your images: train/<class>/* and test/<class>/* in --data-dir, any --image-size",
    "shapes": "6,000 drawn images of 10 shapes, 32×32; embedded: nothing to fetch",
}

Loader = Callable[[DataSpec, Progress | None], Dataset]

DATASETS: dict[str, Loader] = {
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "folder": load_folder,
    "shapes": load_shapes,
}


def load(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Return the data set that ``spec`` names, cut to its limits.

    The pixel statistics stay those of the whole training split, so that weights trained on a part
    of it see the same normalisation wherever they are tested.

    ``progress`` is called with what is being done, how much is done and how much there is.
    Raises UserError for an unknown name and for data that is missing or damaged.
    """
    if spec.name not in DATASETS:
        raise unknown("dataset", spec.name, DATASETS)
    if spec.labels == "coarse" and spec.name != "cifar100":
        raise UserError(f"{spec.name} has no coarse labels; only cifar100 has")
    dataset = DATASETS[spec.name](spec, progress)
    if spec.train_limit is None and spec.test_limit is None:
        return dataset
    train = first_balanced(dataset.train, spec.train_limit)
    test = first_balanced(dataset.test, spec.test_limit)
    return replace(dataset, train=train, test=test, digest=digest(train, test))
