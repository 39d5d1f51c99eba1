"""A run: a model, its data, a recipe and where it is trained."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Annotated, Any

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from bench.spec.model import LONGEST_NAME, NOT_IN_FILE_NAMES
from bench.spec.model import ModelSpec as ModelSpec
from bench.spec.preprocessing import Preprocessing
from bench.spec.recipe import Recipe
from bench.spec.values import (
    TRAINING_PRECISIONS,
    Engine,
    Frozen,
    Labels,
    PositiveInt,
    Precision,
    Seed,
)


class DataSpec(Frozen):
    """Name a data set and how it is read.

    ``data_dir`` is where its files are; ``label`` is what reports call it (a JPEG copy of CIFAR-10
    is not CIFAR-10). ``train_limit`` and ``test_limit`` take the first images of a fixed,
    class-balanced order. ``preprocessing`` is how published weights want images; without, they are
    cut to the image size, and normalised as the recipe says. With ``skip_bad`` images that cannot
    be read are passed over, counted and recorded.
    """

    name: str = "shapes"
    data_dir: str | None = None
    label: str | None = None
    labels: Labels = "fine"
    image_size: PositiveInt = 32
    train_limit: PositiveInt | None = None
    test_limit: PositiveInt | None = None
    preprocessing: Preprocessing | None = None
    skip_bad: bool = False


LONGEST_RECIPE = 80  # letters of its name in a folder's, of which file systems take 255


class RunSpec(Frozen):
    """One model to train, or with ``train`` off to load from ``weights``, and to evaluate.

    ``engine`` is ``fast`` or ``plain``, the loop people write (`bench.train.plain_loop`).
    ``runtime`` may be ``auto``: the record says which was chosen. ``val_split`` is the share of
    the training images that are held out and classified after every epoch, ``target_top1`` the
    accuracy on them that is waited for. ``world_size`` processes share each batch of the recipe.
    With ``deterministic`` only algorithms that repeat to the bit are used, as the CPU's all do.
    """

    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    seed: Seed = 0
    device: str = "cpu"
    precision: Precision = "fp32"
    runtime: str = "eager"
    train: bool = True
    weights: str | None = None
    weights_sha256: str | None = None
    engine: Engine = "fast"
    val_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_top1: Annotated[float, Field(gt=0, le=1)] | None = None
    world_size: PositiveInt = 1
    deterministic: bool = False

    @field_validator("precision")
    @classmethod
    def _is_trained_in(cls, precision: Precision) -> Precision:
        if precision not in TRAINING_PRECISIONS:
            able = ", ".join(TRAINING_PRECISIONS)
            raise ValueError(
                f"{precision} is made of a trained network (see profile and export); training and"
                f" testing weights take {able}"
            )
        return precision

    @model_validator(mode="after")
    def _has_images_to_reach_the_target_on(self) -> RunSpec:
        if self.target_top1 is not None and self.val_split == 0:
            raise ValueError(
                "a target needs a validation split (--val-split 0.1): it is never"
                " measured on the test set"
            )
        return self

    def digest(self) -> str:
        """Return 8 hex digits that change when anything that could change the result does.

        Where the data lies and what a report calls it are left out; which data it is, is in the
        record (`DatasetFacts.digest`) and is checked before a run is continued. So is the target,
        which changes nothing of the training.
        """
        left_out: Any = {"data": {"data_dir", "label"}, "weights": True, "target_top1": True}
        facts = self.model_dump(mode="json", exclude=left_out)
        facts["model"] = self.model.identity()
        if facts["model"]["se_divisor"] is None:  # as before there was one
            del facts["model"]["se_divisor"]
        if self.data.preprocessing is None:
            del facts["data"]["preprocessing"]
        if not self.data.skip_bad:
            del facts["data"]["skip_bad"]
        if not self.deterministic:
            del facts["deterministic"]
        return _digest(facts)

    def located(self) -> RunSpec:
        """Return the same run with absolute paths of its data: a record is read elsewhere."""
        place, name = self.data.data_dir, self.data.name
        changes = {"name": _located_name(name)}
        if place is not None:
            changes["data_dir"] = os.path.abspath(os.path.expanduser(place))
        return self.model_copy(update={"data": self.data.model_copy(update=changes)})

    def folder_name(self) -> str:
        """Return a readable, unique folder name for this run."""
        model, data = self.model, self.data
        trained = f"e{self.recipe.epochs}-s{self.seed}" if self.train else "loaded"
        recipe = self.recipe.name[:LONGEST_RECIPE]  # the digest tells what is cut off apart
        parts = (
            model.file_name(),
            NOT_IN_FILE_NAMES.sub("_", data.name)[:LONGEST_NAME],
            recipe,
            trained,
            self.digest(),
        )
        return "-".join(parts)


def seed_of(folder_name: str) -> int | None:
    """Return the seed in the name of a run's folder; None where there is none."""
    found = re.search(r"-s(\d+)-[0-9a-f]{8}$", folder_name)
    return int(found[1]) if found else None


def _located_name(name: str) -> str:
    """Return the name of a data set; of ``hf:FOLDER`` and ``hf:FOLDER:SPLIT`` the absolute one."""
    prefix, _, rest = name.partition(":")
    if prefix == "hf":
        for folder, split in ((rest, ""), rest.rpartition(":")[::2]):
            place = os.path.abspath(os.path.expanduser(folder))
            if folder and os.path.isdir(place):
                return f"hf:{place}:{split}".removesuffix(":")
    return name


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
