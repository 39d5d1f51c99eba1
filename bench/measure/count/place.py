"""Say where in a network a call stands: its stage, and whether it is inside an SE block."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

ROOT_STAGES = {
    **dict.fromkeys(("stem", "conv1", "bn1", "act1", "relu", "maxpool"), "stem"),
    **{f"{name}{n}": f"stage{n}" for name in ("stage", "layer") for n in (1, 2, 3, 4)},
    **dict.fromkeys(("avgpool", "global_pool", "flatten", "fc", "head", "classifier"), "head"),
}
SE_NAMES = frozenset({"se", "se_block", "se_layer", "se_module"})
# As timm and torchvision call the block where its place in the network has another name.
SE_CLASSES = frozenset({"SqueezeExcite", "SqueezeExcitation", "SEModule", "EffectiveSEModule"})
_STAGE = re.compile(r"stage[1-9]")


def stage_of(path: Sequence[str]) -> str:
    """Return the stage that a module stands in; children of a network that are unknown are one.

    Families that keep their stages in a list or as s1 to s4 have them numbered from 1.
    """
    child = path[0]
    if child in ("stages", "layers") and len(path) > 1 and path[1].isdecimal():
        return f"stage{int(path[1]) + 1}"
    if re.fullmatch(r"s[1-9]", child):
        return f"stage{child[1]}"
    return ROOT_STAGES.get(child, child)


def se_blocks(model: nn.Module) -> frozenset[str]:
    """Return the names of a network's modules that are SE blocks, ours or others'."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in SE_NAMES or type(module).__name__ in SE_CLASSES
    )


def is_in_se(path: Sequence[str], blocks: frozenset[str]) -> bool:
    """Say whether a module's path leads through one of the SE blocks."""
    return any(".".join(path[: end + 1]) in blocks for end in range(len(path)))


class Place:
    """Where in the network the call is: the modules that have been entered and not left."""

    def __init__(self, model: nn.Module) -> None:
        self.stage = "stem"
        self.last = max((stage_of((name,)) for name, _ in model.named_children()
                         if _STAGE.fullmatch(stage_of((name,)))), default="stage4")  # fmt: skip
        self.se_blocks = se_blocks(model)
        self.stack: list[tuple[tuple[str, ...], nn.Module]] = []
        for name, module in model.named_modules():
            path = tuple(name.split(".")) if name else ()
            module.register_forward_pre_hook(lambda m, _, path=path: self._enter(path, m))
            module.register_forward_hook(lambda *_: self._leave())

    def _enter(self, path: tuple[str, ...], module: nn.Module) -> None:
        self.stack.append((path, module))
        if 1 <= len(path) <= 2:
            self.stage = stage_of(path)

    def _leave(self) -> None:
        path, _ = self.stack.pop()
        if len(path) == 1 and self.stage == self.last:
            self.stage = "head"  # what follows may be a bare call, such as a mean

    @property
    def path(self) -> tuple[str, ...]:
        return self.stack[-1][0]

    @property
    def in_se(self) -> bool:
        return is_in_se(self.path, self.se_blocks)

    @property
    def caller(self) -> str:
        return type(self.stack[-1][1]).__name__
