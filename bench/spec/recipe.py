"""Recipes: the hyper-parameters of a training."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_validator,
)

from bench.errors import UserError, unknown
from bench.spec.values import Frozen, NonNegativeFloat, NonNegativeInt, PositiveInt, validated


class Recipe(Frozen):
    """The training hyper-parameters.

    ``milestones`` are epochs after which the learning rate is multiplied by ``gamma``; they belong
    to ``epochs`` and scale with it (see `with_epochs`). ``normalization`` is ``half`` for
    (x - 0.5) / 0.5, ``pixels`` for the mean and standard deviation of the training pixels and
    ``imagenet`` for those of ImageNet's.
    ``cutout_size`` is the side in pixels of Cutout's square, ``random_erasing_prob`` the chance
    that Random Erasing blanks a box, ``mixup_alpha`` the parameter of Mixup's Beta distribution,
    ``label_smoothing`` the share of a label that is spread over all classes (Szegedy et al. 2016,
    section 7), ``grad_clip`` the largest norm that a step's gradient may have, ``ema_decay`` how
    much of the averaged weights a step keeps; 0 switches each off. With ``ema_decay`` the averaged
    weights are those that are tested and saved. A last batch smaller than ``batch_size`` is left
    out with ``drop_last``, and in any case when it has less than two images for each process,
    because BatchNorm has no variance of one image: the epoch's number of images says so.
    """

    name: str
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 128
    lr: Annotated[float, Field(gt=0, le=1e38)] = 0.1  # fp32 holds it
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    nesterov: bool = False
    schedule: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[PositiveInt, ...] = (30, 60, 90)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    lr_warmup_epochs: NonNegativeFloat = 0.0
    normalization: Literal["half", "pixels", "imagenet"] = "pixels"
    crop_padding: NonNegativeInt = 0
    flip: bool = False
    drop_last: bool = False
    cutout_size: NonNegativeInt = 0
    random_erasing_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    mixup_alpha: NonNegativeFloat = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    grad_clip: NonNegativeFloat = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("name")
    @classmethod
    def _in_order(cls, name: str) -> str:
        """Put what differs from the base in the fields' order: equal recipes have equal names.

        Options and files may change fields in any order, and one field twice; the last counts.
        """
        base, *differing = re.split(r"-(?=[a-z_]+=)", name)
        values = dict(part.split("=", 1) for part in differing)
        fields = list(cls.model_fields)
        known = sorted(values.keys() & set(fields), key=fields.index)
        others = [key for key in values if key not in fields]
        return "".join([base, *(f"-{key}={values[key]}" for key in (*known, *others))])

    def with_epochs(self, epochs: int) -> Recipe:
        """Return this recipe stretched or shortened to ``epochs``, milestones in proportion."""
        self._replaced(epochs=epochs)  # refuses what is no number of epochs before it is scaled by
        scaled = (max(1, round(m * epochs / self.epochs)) for m in self.milestones)
        return self._replaced(epochs=epochs, milestones=tuple(dict.fromkeys(scaled)))

    def changed(self, epochs: int | None = None, **changes: Any) -> Recipe:
        """Return a validated copy with other epochs (milestones scale) and fields.

        The name of the copy tells the fields that differ; values that are None change nothing.
        UserError for another name: it would hide what differs.
        """
        if changes.pop("name", None) is not None:
            raise UserError("name: a recipe is named after its base and the fields that differ")
        if epochs is not None and epochs != self.epochs:
            return self.with_epochs(epochs).changed(**changes)
        given = {key: value for key, value in changes.items() if value is not None}
        now = self.model_dump()
        differing = {key: value for key, value in given.items() if now.get(key) != value}
        suffix = "".join(f"-{key}={_text(value)}" for key, value in differing.items())
        return self._replaced(**differing, name=self.name + suffix) if differing else self

    def _replaced(self, **changes: Any) -> Recipe:
        return validated(Recipe, self.model_dump() | changes)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # The comparison this project started from, as it was trained: no augmentation.
        Recipe(name="reference", normalization="half"),
        # The same optimiser and schedule with the augmentation of the ResNet paper, section 4.2.
        Recipe(name="standard", crop_padding=4, flip=True),
        # For a first look on a laptop: a gentler rate, annealed, because few steps are taken.
        Recipe(
            name="quick",
            epochs=2,
            batch_size=32,
            lr=0.005,
            schedule="cosine",
            milestones=(),
            lr_warmup_epochs=0.5,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """Return the named recipe; an unknown name fails by listing the known ones."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
