"""What to run, as data: models, data sets, recipes, runs and profiles.

Everything here is immutable, validated on construction and free of torch, so that a file or a
command line is refused before anything heavy is imported or anything is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from bench.errors import FieldError, UserError, unknown

Stem = Literal["cifar", "imagenet"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Labels = Literal["fine", "coarse"]
Mode = Literal["infer", "train"]
Engine = Literal["fast", "plain"]
Scenario = Literal["offline", "single_stream"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
STEMS: tuple[Stem, ...] = ("cifar", "imagenet")

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 32)]  # of which torch makes others within 64 bits
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class Frozen(BaseModel):
    """Immutable, without unknown keys, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T", bound=Frozen)


def validated(cls: type[T], data: dict[str, Any]) -> T:
    """Return ``cls`` made of ``data``; FieldError names the first thing that is wrong in it."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        field, problem = _first_problem(error)
        raise FieldError(field, problem + _known_keys(cls, error)) from None


def _known_keys(cls: type[BaseModel], error: ValidationError) -> str:
    """Return the keys that may stand where the first problem is an unknown one, else nothing."""
    problem = _most_telling(error)
    if problem["type"] != "extra_forbidden":
        return ""
    known: Any = cls
    for part in problem["loc"][:-1]:
        if isinstance(part, int):  # an entry of a list: its type is known already
            continue
        field = getattr(known, "model_fields", {}).get(part)
        known = _model_in(field.annotation) if field is not None else None
    names = getattr(known, "model_fields", {})
    return f"; known keys: {', '.join(names)}" if names else ""


def _model_in(annotation: Any) -> Any:
    """Return the model inside X | None and tuple[X, ...], or None when there is none."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def first_problem(error: ValidationError) -> str:
    """Return the first problem that pydantic found as one line: where, what, and the value."""
    return str(FieldError(*_first_problem(error)))


def _first_problem(error: ValidationError) -> tuple[str, str]:
    """Return where the first problem is, nothing for the whole, and what it is."""
    problem = _most_telling(error)
    # pydantic also names the branch of a union, such as constrained-int, which no user wrote
    loc = [str(part) for part in problem["loc"]]
    where = ".".join(part for part in loc if not re.search(r"^(constrained-|literal\[)", part))
    if problem["type"] == "extra_forbidden":
        return "", f"unknown key {where!r}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = _PLAIN_WORDS.get(problem["type"], message)
    given = problem["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return where, message + shown


def _most_telling(error: ValidationError) -> Any:
    """Return an unknown key, which a missing one may be misspelt as, else the first problem."""
    problems = error.errors(include_url=False, include_context=False)
    return next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])


# In the words of files and command lines, not of Python's types.
_PLAIN_WORDS = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a table",
    "model_type": "should be a table",
    "too_short": "should not be empty",
    "missing": "is missing",
}


class ModelSpec(Frozen):
    """Identify a model up to its weights; runs and profiles are joined on this.

    ``reduction`` and ``se_bias`` are those of the SE block (Hu et al., section 3) and stay ``None``
    for models without one. ``se_divisor``, of which the block's hidden width is a multiple, is 8
    in timm's models and stays ``None`` where nothing is rounded, as in the paper.
    """

    name: str
    stem: Stem = "imagenet"
    num_classes: PositiveInt = 10
    image_size: PositiveInt = 32
    reduction: PositiveInt | None = None
    se_bias: bool | None = None
    se_divisor: PositiveInt | None = None


class DataSpec(Frozen):
    """Name a data set and how it is read.

    ``data_dir`` is where its files are; ``label`` is what reports call it (a JPEG copy of CIFAR-10
    is not CIFAR-10). ``train_limit`` and ``test_limit`` take the first images of a fixed,
    class-balanced order.
    """

    name: str = "shapes"
    data_dir: str | None = None
    label: str | None = None
    labels: Labels = "fine"
    image_size: PositiveInt = 32
    train_limit: PositiveInt | None = None
    test_limit: PositiveInt | None = None


class Recipe(Frozen):
    """The training hyper-parameters.

    ``milestones`` are epochs after which the learning rate is multiplied by ``gamma``; they belong
    to ``epochs`` and scale with it (see `with_epochs`). ``normalization`` is ``half`` for
    (x - 0.5) / 0.5 and ``pixels`` for the mean and standard deviation of the training pixels.
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
    normalization: Literal["half", "pixels"] = "pixels"
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


LONGEST_RECIPE = 80  # letters of its name in a folder's, of which file systems take 255


class RunSpec(Frozen):
    """One model to train, or with ``train`` off to load from ``weights``, and to evaluate.

    ``engine`` is ``fast`` or ``plain``, the loop people write (`bench.baseline`). ``runtime`` may
    be ``auto``: the record says which was chosen. ``val_split`` is the share of the training
    images that are held out and classified after every epoch, ``target_top1`` the accuracy on
    them that is waited for. ``world_size`` processes share each batch of the recipe. With
    ``deterministic`` only algorithms that repeat to the bit are used, which the CPU's do anyway.
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
        if self.model.se_divisor is None:  # as before there was one: runs keep their folders
            del facts["model"]["se_divisor"]
        if not self.deterministic:
            del facts["deterministic"]
        return _digest(facts)

    def folder_name(self) -> str:
        """Return a readable, unique folder name for this run."""
        model, data = self.model, self.data
        trained = f"e{self.recipe.epochs}-s{self.seed}" if self.train else "loaded"
        recipe = self.recipe.name[:LONGEST_RECIPE]  # the digest tells what is cut off apart
        parts = (model.name, model.stem, data.name, recipe, trained, self.digest())
        return "-".join(parts)


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class TimingSpec(Frozen):
    """How long and how finely to time one row.

    A block is a number of calls between two clock readings, the device synchronised at its end.
    Blocks are about ``block_s`` long, and longer where reading the clock and synchronising would
    cost more than ``sync_share`` of them. Timing goes on until the 95 % interval of the ratio
    between the models compared is within ±``rel_precision``, at least ``min_blocks`` a row and at
    most ``max_s`` seconds a row on average. A single-stream row times every call by itself and
    stops at ``single_stream_samples``, or after ``single_stream_s`` seconds when those take longer.
    """

    min_blocks: PositiveInt = 10
    block_s: PositiveFloat = 0.1
    max_s: PositiveFloat = 8.0
    rel_precision: PositiveFloat = 0.01
    min_warmup_s: NonNegativeFloat = 0.2
    max_warmup_s: PositiveFloat = 5.0
    sync_share: PositiveFloat = 1e-3
    single_stream_samples: PositiveInt = 1000
    single_stream_s: PositiveFloat = 3.0


class ProfileSpec(Frozen):
    """The axes of a profile; their product, one record each, is what is measured.

    The batch size ``auto`` is the largest that fits, halved from a start until it does. ``memory``
    and ``breakdown`` say whether to measure peak memory in fresh processes and where the time of
    an eager call goes. ``keep_freed`` is for the CPU, see `bench.heap`. ``series`` is shared by
    sittings that repeat each other.
    """

    models: tuple[ModelSpec, ...]
    device: str = "cpu"
    precisions: tuple[Precision, ...] = ("fp32",)
    runtimes: tuple[str, ...] = ("eager",)
    batch_sizes: tuple[PositiveInt | Literal["auto"], ...] = (1, 64)
    modes: tuple[Mode, ...] = ("infer",)
    seed: Seed = 0
    timing: TimingSpec = TimingSpec()
    memory: bool = True
    breakdown: bool = True
    keep_freed: bool = True
    series: str | None = None

    @model_validator(mode="after")
    def _has_something_on_every_axis(self) -> ProfileSpec:
        for axis in ("models", "precisions", "runtimes", "batch_sizes", "modes"):
            if not getattr(self, axis):
                raise ValueError(f"{axis}: nothing to profile")
        return self

    def digest(self) -> str:
        """Return 8 hex digits that change when anything that is measured does.

        ``keep_freed`` came later: on a CPU it is another measurement, elsewhere the same.
        """
        facts = self.model_dump(mode="json")
        if self.device != "cpu":
            del facts["keep_freed"]
        return _digest(facts)
