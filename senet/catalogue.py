"""The networks by name, as data: what a network is called, how deep and wide it is, what it has.

A name is that of a network, or of a kind of attention and a network: ``resnet56``,
``se_resnet56``, ``ge_theta_plus_wrn28_10``. Nothing here needs torch, so that reports can ask for
the facts of a name without it; `senet.zoo` builds the networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from senet.attention import KINDS
from senet.errors import ModelError

BOTH = ("imagenet", "cifar")  # the first is the default
CIFAR = ("cifar",)


@dataclass(frozen=True)
class Network:
    """One network without attention: its family, its layers, its blocks in each stage.

    ``width`` is the factor on the family's channels (WRN's k). ``stems`` are those it can have,
    the default first. ``shortcuts`` are those it can have where shapes change: A, zeros for the
    new channels, or B, a 1×1 convolution (He et al., 1512.03385, section 4.1).
    """

    family: str
    depth: int
    block: str
    blocks: tuple[int, ...]
    width: int = 1
    stems: tuple[str, ...] = BOTH
    shortcuts: tuple[str, ...] = ("B",)
    has_dropout: bool = False


def _cifar(depth: int) -> Network:
    """Return He et al.'s network for CIFAR: 6n + 2 layers, 16, 32, 64 channels (section 4.2)."""
    n = (depth - 2) // 6
    return Network("cifar_resnet", depth, "basic", (n, n, n), 1, CIFAR, ("A", "B"))


def _wrn(depth: int, width: int) -> Network:
    """Return WRN-depth-width: 6n + 4 layers (Zagoruyko and Komodakis, 1605.07146, table 1)."""
    n = (depth - 4) // 6
    return Network("wrn", depth, "basic", (n, n, n), width, CIFAR, has_dropout=True)


# A new network is one line here, and has every kind of attention.
NETWORKS: dict[str, Network] = {
    "resnet18": Network("resnet", 18, "basic", (2, 2, 2, 2)),
    "resnet34": Network("resnet", 34, "basic", (3, 4, 6, 3)),
    "resnet50": Network("resnet", 50, "bottleneck", (3, 4, 6, 3)),
    "resnet101": Network("resnet", 101, "bottleneck", (3, 4, 23, 3)),
    "resnet152": Network("resnet", 152, "bottleneck", (3, 8, 36, 3)),
    "resnet20": _cifar(20),
    "resnet32": _cifar(32),
    "resnet44": _cifar(44),
    "resnet56": _cifar(56),
    "resnet110": _cifar(110),
    "resnet164": Network("cifar_resnet", 164, "bottleneck", (18, 18, 18), 1, CIFAR),
    "preact_resnet110": Network("preact_resnet", 110, "basic", (18, 18, 18), 1, CIFAR),
    "preact_resnet164": Network("preact_resnet", 164, "bottleneck", (18, 18, 18), 1, CIFAR),
    "wrn16_4": _wrn(16, 4),
    "wrn16_8": _wrn(16, 8),
    "wrn28_10": _wrn(28, 10),
}


@dataclass(frozen=True)
class Facts:
    """What a name says: the network, and the kind of attention in it (``none`` for none)."""

    name: str
    base: str
    attention: str
    network: Network

    @property
    def depth(self) -> int:
        """Return the number of layers that the network is named after."""
        return self.network.depth

    @property
    def width(self) -> int:
        """Return the factor on the family's channels."""
        return self.network.width

    @property
    def family(self) -> str:
        """Return the family: resnet, cifar_resnet, preact_resnet or wrn."""
        return self.network.family


def facts(name: str) -> Facts:
    """Return what the name of a network says; ModelError, listing the known ones, if nothing."""
    for kind in KINDS:
        base = name.removeprefix("" if kind == "none" else f"{kind}_")
        if base in NETWORKS and name == name_of(base, kind):
            return Facts(name, base, kind, NETWORKS[base])
    raise ModelError(
        f"unknown model {name!r}; choose from: {', '.join(NETWORKS)}; "
        f"each can have before its name: {', '.join(f'{k}_' for k in KINDS if k != 'none')}"
    )


def is_known(name: str) -> bool:
    """Say whether `facts` knows the name."""
    return name in names()


def names() -> Iterator[str]:
    """Return every name, network by network."""
    return (name_of(base, kind) for base in NETWORKS for kind in KINDS)


def name_of(base: str, kind: str) -> str:
    """Return the name of a network with a kind of attention: resnet56 and se is se_resnet56."""
    return base if kind == "none" else f"{kind}_{base}"


def attention_of(name: str) -> str:
    """Return the kind of attention that the named network has; ModelError for unknown names."""
    return facts(name).attention


def stems_of(name: str) -> tuple[str, ...]:
    """Return the stems that the named network can have, its default first; ModelError."""
    return facts(name).network.stems
