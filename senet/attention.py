"""Which attention a residual network has, as one value: the kind, its options, and where it stands.

Nothing here needs torch, so that reports can read and compare attentions without it; the modules
themselves are in `senet.layers` (SE) and `senet.gates` (its rivals).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from senet.errors import ModelError, positive_int, unknown

# Every kind, with the options that apply to it and what they are unless told otherwise.
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    # Hu et al., Squeeze-and-Excitation Networks, 1709.01507
    "se": {
        "reduction": 16,
        "bias": True,
        "divisor": 1,
        "squeeze": "avg",
        "excitation": "sigmoid",
    },
    # Wang et al., ECA-Net, 1910.03151
    "eca": {},
    # Woo et al., CBAM, 1807.06521
    "cbam": {"reduction": 16, "bias": True, "divisor": 1},
    # Hu et al., Gather-Excite, 1810.12348: without parameters, with a learnt gather, and with a
    # learnt gather and the excitation of SE
    "ge_theta_minus": {"extent": 0},
    "ge_theta": {"extent": 0},
    "ge_theta_plus": {"extent": 0, "reduction": 16, "bias": True, "divisor": 1},
    # Yang et al., SimAM, ICML 2021: without parameters
    "simam": {},
}
# What the ablations of the SE paper choose from (section 6.2 to 6.5); 0 is a global extent.
CHOICES: dict[str, tuple[Any, ...]] = {
    "squeeze": ("avg", "max", "none"),
    "excitation": ("sigmoid", "tanh", "relu"),
    "position": ("standard", "pre", "post", "identity", "conv3x3"),
    "extent": (0, 2, 4, 8),
}


@dataclass(frozen=True)
class Attention:
    """What stands in the blocks of a residual network to weigh its channels or positions.

    Options that are ``None`` become the kind's defaults, so that two values are equal when they
    mean the same; options that do not apply to the kind stay ``None``.

    - ``reduction``: the MLP's hidden width is C / reduction (the SE paper's r; 16 by default)
    - ``bias``: whether the MLP's two layers have one
    - ``divisor``: of what the hidden width is a multiple (timm's SE: 8)
    - ``squeeze``: ``avg``, ``max``, or ``none``: an excitation of every position for itself
    - ``excitation``: what makes the gate, ``sigmoid``, ``tanh`` or ``relu``
    - ``extent``: over how many positions GE gathers, 2, 4 or 8, or 0 for all
    - ``position``: ``standard`` (end of the residual branch, before the addition), ``pre`` (its
      beginning), ``post`` (after the addition), ``identity`` (on the shortcut) or ``conv3x3``
      (after the 3×3 convolution inside a bottleneck)
    - ``stages``: the numbers of the stages that have it, from 1; ``None`` for all (the SE paper
      counts the stem as the first: its stage 2 is 1 here)

    ModelError for an unknown kind, and for an option that is out of range or not the kind's.
    """

    kind: str = "none"
    reduction: int | None = None
    bias: bool | None = None
    divisor: int | None = None
    squeeze: str | None = None
    excitation: str | None = None
    extent: int | None = None
    position: str | None = None
    stages: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise unknown("attention", str(self.kind), KINDS)
        defaults = defaults_of(self.kind)
        for option, value in self._options():
            if value is None:
                object.__setattr__(self, option, defaults.get(option))
            elif option not in defaults:
                raise _does_not_apply(option, self.kind)
            else:
                object.__setattr__(self, option, _checked(option, value))

    def _options(self) -> Iterator[tuple[str, Any]]:
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self)[1:])

    def __bool__(self) -> bool:
        """Say whether there is any attention."""
        return self.kind != "none"

    def __str__(self) -> str:
        """Return the kind, and the options that are not its defaults."""
        changed = ", ".join(f"{option}={_text(value)}" for option, value in self.changes().items())
        return f"{self.kind} ({changed})" if changed else self.kind

    def own_options(self) -> dict[str, Any]:
        """Return the options of the kind itself: all but where it stands."""
        return {option: getattr(self, option) for option in KINDS[self.kind]}

    def in_stage(self, number: int) -> Attention:
        """Return the attention that the blocks of a stage, counted from 1, have."""
        return self if self.stages is None or number in self.stages else Attention()

    def changes(self) -> dict[str, Any]:
        """Return the options that are not the kind's defaults."""
        defaults = defaults_of(self.kind)
        return {o: value for o, value in self._options() if value != defaults.get(o)}

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and what differs from its defaults, for JSON."""
        return {"kind": self.kind, **self.changes()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Attention:
        """Return the attention that `to_dict` described; ModelError for anything else."""
        names = {field.name for field in dataclasses.fields(cls)}
        for key in facts:
            if key not in names:
                raise unknown("attention option", key, sorted(names))
        return cls(**facts)


def as_attention(value: Attention | str | None) -> Attention:
    """Return an attention given as itself, as the name of a kind, or as nothing."""
    return value if isinstance(value, Attention) else Attention(value or "none")


def defaults_of(kind: str) -> dict[str, Any]:
    """Return the options that apply to a kind, with their defaults."""
    anywhere = {} if kind == "none" else {"position": "standard", "stages": None}
    return KINDS[kind] | anywhere


def _checked(option: str, value: Any) -> Any:
    """Return ``value`` if the option can have it; ModelError otherwise."""
    if option in ("reduction", "divisor"):
        return positive_int(option, value)
    if option == "bias":
        return boolean(option, value)
    if option == "stages":
        return _stages(value)
    choices = CHOICES[option]
    if type(value) is not type(choices[0]) or value not in choices:
        raise unknown(option, value, map(str, choices))
    return value


def _stages(value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__") or not (stages := tuple(value)):
        raise ModelError(f"stages must be numbers of stages such as (2, 3), not {value!r}")
    return tuple(sorted({positive_int("a stage", stage) for stage in stages}))


def boolean(what: str, value: object) -> bool:
    """Return ``value`` if it is True or False; ModelError otherwise."""
    if not isinstance(value, bool):
        raise ModelError(f"{what} must be True or False, not {value!r}")
    return value


def _does_not_apply(option: str, kind: str) -> ModelError:
    takers = ", ".join(other for other in KINDS if option in defaults_of(other))
    own = ", ".join(defaults_of(kind)) or "none"
    return ModelError(
        f"{option} does not apply to attention {kind}, whose options are: {own}; "
        f"it applies to: {takers}"
    )


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


NONE = Attention()
