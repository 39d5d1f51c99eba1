"""Which model exactly: its name, what it was built for, its attention, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, model_validator

from bench.spec.values import Frozen, PositiveInt, Stem
from senet.attention import Attention

# How the SE block's options were called while there was no other attention.
FLAT = {"reduction": "reduction", "se_bias": "bias", "se_divisor": "divisor"}
Plain = str | int | float | bool | None | tuple["Plain", ...]
NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9_.=-]+")
LONGEST_NAME = 80  # letters of a model's name in a folder's, of which file systems take 255


def _attention(value: Any) -> Any:
    """Return the attention in a record's table, or by the name of its kind alone."""
    if isinstance(value, str):
        return Attention(value)
    return Attention.from_dict(value) if isinstance(value, Mapping) else value


def attention_facts(attention: Attention) -> dict[str, Any]:
    """Return all that applies to the kind, so that a record does not depend on defaults."""
    places = {"position": attention.position, "stages": attention.stages}
    facts = {"kind": attention.kind, **attention.own_options(), **places}
    return {option: value for option, value in facts.items() if value is not None}


AttentionValue = Annotated[Attention, BeforeValidator(_attention), PlainSerializer(attention_facts)]


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _arguments(value: Any) -> Any:
    """Return a table of arguments as pairs in the order of their names, which can be hashed."""
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        return tuple(sorted((key, _frozen(argument)) for key, argument in pairs))
    except TypeError:  # which pydantic takes for a fault of the code
        raise ValueError("should be a table of arguments") from None


Arguments = Annotated[
    tuple[tuple[str, Any], ...], BeforeValidator(_arguments), PlainSerializer(dict)
]


class Origin(Frozen):
    """Which code a model from elsewhere is: two of one name and other content are two models.

    ``source`` is the prefix of its name. ``library`` and ``version`` are the package that built
    it, ``revision`` the commit of a hub's repository, ``file_sha256`` the hash of the user's file.
    ``architecture`` is the SHA-256 of the names and shapes of its state.
    """

    source: str
    architecture: str
    library: str | None = None
    version: str | None = None
    revision: str | None = None
    file_sha256: str | None = None


class ModelSpec(Frozen):
    """Identify a model up to its weights; runs and profiles are joined on this.

    ``stem`` and ``attention`` are facts of this project's networks: a model from elsewhere has
    ``None`` and an ``origin``, one of ours without attention has no attention. ``arguments`` are
    those that its builder was given beside the number of classes and the size of images.
    """

    name: str
    stem: Stem | None = "imagenet"
    num_classes: PositiveInt = 10
    image_size: PositiveInt = 32
    in_channels: PositiveInt = 3
    attention: AttentionValue | None = None
    arguments: Arguments = ()
    origin: Origin | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_first_schema(cls, facts: Any) -> Any:
        """Take the options of the SE block from where records had them before other attentions."""
        if not isinstance(facts, Mapping) or not FLAT.keys() & facts.keys():
            return facts
        flat = {own: facts[old] for old, own in FLAT.items() if facts.get(old) is not None}
        rest = {key: value for key, value in facts.items() if key not in FLAT}
        return rest | ({"attention": {"kind": "se", **flat}} if flat else {})

    @property
    def se(self) -> Attention | None:
        """Return the attention where it is SE."""
        return self.attention if self.attention and self.attention.kind == "se" else None

    @property
    def reduction(self) -> int | None:
        """Return r, of which the hidden width of the attention is the C / r; None without one."""
        return self.attention.reduction if self.attention else None

    @property
    def title(self) -> str:
        """Return the name, and the stem where there is one: ``resnet18, cifar stem``."""
        return f"{self.name}, {self.stem} stem" if self.stem else self.name

    def identity(self) -> dict[str, Any]:
        """Return the facts that digests are made of, in the form that they have had from the start.

        What came later is left out where it says nothing, so that runs keep their folders.
        """
        facts = self.model_dump(mode="json")
        attention = facts.pop("attention")
        se = self.se
        facts |= {old: getattr(se, own, None) for old, own in FLAT.items()}
        if se and se.divisor == 1:
            facts["se_divisor"] = None
        if self.attention and self.attention != _plain_se(self.attention):
            facts["attention"] = attention
        for key, usual in (("in_channels", 3), ("arguments", {}), ("origin", None)):
            if facts[key] == usual:
                del facts[key]
        return facts

    def file_name(self) -> str:
        """Return the name and the stem with nothing in them that file systems do not take."""
        name = NOT_IN_FILE_NAMES.sub("_", self.name)[:LONGEST_NAME]
        return f"{name}-{self.stem}" if self.stem else name


def _plain_se(attention: Attention) -> Attention | None:
    """Return the attention without what came after SE's reduction, bias and divisor."""
    if attention.kind != "se":
        return None
    return Attention("se", attention.reduction, attention.bias, attention.divisor)
