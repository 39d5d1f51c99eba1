"""The rivals of the SE block, each a module that weighs its input: (B, C, H, W) -> (B, C, H, W).

Each claims SE's gain for less, or more for the same. `make_gate` builds one, or an SE block, from
an `Attention`. Shapes: B images, C channels, H × W positions, r the reduction.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.attention import Attention
from senet.errors import ModelError
from senet.layers import SqueezeExcitation, hidden_channels


class EfficientChannelAttention(nn.Module):
    """Weigh each channel by those next to it alone (ECA; Wang et al., 1910.03151, section 3.2).

    The SE block without its bottleneck: one convolution over the channels' means, shared by all.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = eca_kernel(channels)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate in (0, 1) for every image and channel."""
        squeezed = x.mean((2, 3))  # (B, C)
        gate: Tensor = self.conv(squeezed[:, None]).sigmoid()  # (B, 1, C)
        return x * gate[:, 0, :, None, None]


def eca_kernel(channels: int) -> int:
    """Return the odd number nearest to log2(C) / 2 + 1 / 2 (equation 12), at least 3."""
    t = int((math.log2(channels) + 1) / 2)
    return max(3, t if t % 2 else t + 1)


class ConvolutionalBlockAttention(nn.Module):
    """Weigh the channels, then the positions (CBAM; Woo et al., 1807.06521, section 3)."""

    def __init__(self, channels: int, reduction: int, bias: bool, divisor: int) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction, bias, divisor)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate for every channel and times one for every position."""
        out: Tensor = self.spatial(self.channel(x))
        return out


class ChannelGate(nn.Module):
    """Weigh each channel by its mean and its maximum, which one MLP looks at (equation 2)."""

    def __init__(self, channels: int, reduction: int, bias: bool, divisor: int) -> None:
        super().__init__()
        hidden = hidden_channels(channels, reduction, divisor)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate in (0, 1) for every image and channel."""
        mean, largest = self._mlp(x.mean((2, 3))), self._mlp(x.amax((2, 3)))  # (B, C) each
        gate = (mean + largest).sigmoid()
        return x * gate[..., None, None]

    def _mlp(self, squeezed: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.relu(self.fc1(squeezed), inplace=True))
        return out


class SpatialGate(nn.Module):
    """Weigh each position by the mean and the maximum over its channels (equation 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)  # as in the authors' code; the paper leaves it out

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate in (0, 1) for every image and position."""
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)  # (B, 2, H, W)
        gate: Tensor = self.bn(self.conv(pooled)).sigmoid()  # (B, 1, H, W)
        return x * gate


class GatherExcite(nn.Module):
    """Weigh each position of a channel by what lies around it (Hu et al., 1810.12348, section 3).

    ``extent`` is over how many positions a side the gather operator looks; 0 is over all.
    ``side`` gives the number of positions a side for a learnt gather over all of them (θ and θ+),
    which is a depth-wise convolution of that size; other extents are log2(extent) depth-wise 3×3
    convolutions of stride 2, or (θ-) a mean. θ+ has ``mlp``, the two FC layers of the SE block.
    """

    def __init__(
        self, channels: int, extent: int, *, side: int | None = None, mlp: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.extent, self.side = extent, side
        self.gather = None if side is None else _learnt_gather(channels, extent, side)
        self.mlp = nn.Identity() if mlp is None else mlp

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate in (0, 1) for every image, channel and neighbourhood.

        ModelError where a gather over all positions was learnt for another number of them.
        """
        gathered = self._gathered(x)  # (B, C, h, w)
        gate: Tensor = self.mlp(gathered).sigmoid()
        if gate.shape[2:] != (1, 1):  # a gate serves the positions that it was gathered from
            gate = F.interpolate(gate, size=x.shape[2:], mode="nearest")
        return x * gate

    def _gathered(self, x: Tensor) -> Tensor:
        if self.gather is not None:
            self._check_size(x)
            gathered: Tensor = self.gather(x)
            return gathered
        if self.extent == 0:
            return x.mean((2, 3), keepdim=True)
        size = 2 * self.extent - 1
        return F.avg_pool2d(x, size, self.extent, size // 2, count_include_pad=False)

    def _check_size(self, x: Tensor) -> None:
        height, width = x.shape[2:]
        if self.extent == 0 and (height, width) != (self.side, self.side):
            raise ModelError(
                f"this network gathers over {self.side} × {self.side} positions where the images "
                f"have {height} × {width}: build it with their image_size, or give ge an extent"
            )


def _learnt_gather(channels: int, extent: int, side: int) -> nn.Sequential:
    """Return depth-wise convolutions, each with BatchNorm, that gather ``extent`` positions."""

    def conv(size: int, stride: int, padding: int) -> nn.Conv2d:
        return nn.Conv2d(channels, channels, size, stride, padding, groups=channels, bias=False)

    if extent == 0:
        return nn.Sequential(OrderedDict(conv1=conv(side, 1, 0), bn1=nn.BatchNorm2d(channels)))
    layers: list[tuple[str, nn.Module]] = []
    for number in range(1, extent.bit_length()):  # log2(extent) of them
        layers += [(f"conv{number}", conv(3, 2, 1)), (f"bn{number}", nn.BatchNorm2d(channels))]
        if 2**number < extent:
            layers.append((f"relu{number}", nn.ReLU(inplace=True)))
    return nn.Sequential(OrderedDict(layers))


class PositionMLP(nn.Module):
    """The two FC layers of the SE block at every position: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, reduction: int, bias: bool, divisor: int) -> None:
        super().__init__()
        hidden = hidden_channels(channels, reduction, divisor)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return FC, ReLU, FC of the channels at every position."""
        out: Tensor = self.fc2(F.relu(self.fc1(x), inplace=True))
        return out


class SimAM(nn.Module):
    """Weigh each position of a channel by how far it stands out there (SimAM; Yang et al., 2021).

    The inverse energy of equation 5, without parameters; ``smoothing`` is the paper's λ.
    """

    def __init__(self, smoothing: float = 1e-4) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a gate in (0.62, 1) for every image, channel and position."""
        squares = (x - x.mean((2, 3), keepdim=True)).square()
        others = max(x.shape[2] * x.shape[3] - 1, 1)  # one position alone has no variance
        variance = squares.sum((2, 3), keepdim=True) / others
        inverse_energy = squares / (4 * (variance + self.smoothing)) + 0.5
        return x * inverse_energy.sigmoid()


# How each kind is made, from the channels, the positions a side and the options that it has.
_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "none": lambda c, side: nn.Identity(),
    "se": lambda c, side, **options: SqueezeExcitation(c, **options),
    "eca": lambda c, side: EfficientChannelAttention(c),
    "cbam": lambda c, side, **mlp: ConvolutionalBlockAttention(c, **mlp),
    "ge_theta_minus": lambda c, side, extent: GatherExcite(c, extent),
    "ge_theta": lambda c, side, extent: GatherExcite(c, extent, side=side),
    "ge_theta_plus": lambda c, side, extent, **mlp: GatherExcite(
        c, extent, side=side, mlp=PositionMLP(c, **mlp)
    ),
    "simam": lambda c, side: SimAM(),
}


def make_gate(attention: Attention, channels: int, side: int) -> nn.Module:
    """Return the module of an attention for ``channels`` channels and side × side positions."""
    return _MAKERS[attention.kind](channels, side, **attention.own_options())


def block_gate(
    attention: Attention, side: int, stride: int, *, c_in: int, c_out: int, c_mid: int | None = None
) -> nn.Module:
    """Return a block's gate, sized for where in the block it stands.

    ``c_mid`` is the width inside a bottleneck; ModelError for a gate inside a block that is none.
    """
    if attention.position == "pre":
        return make_gate(attention, c_in, side)
    channels = c_mid if attention.position == "conv3x3" else c_out
    if channels is None:
        raise ModelError("position conv3x3 is inside a bottleneck; a basic block has none")
    return make_gate(attention, channels, halved(side, stride))


def halved(side: int, stride: int) -> int:
    """Return how many positions a stride leaves, rounded up as convolutions with padding do."""
    return -(-side // stride)


def gated(block: Any, place: str, x: Tensor) -> Tensor:
    """Return x weighed by a block's gate, ``se``, if that stands in this place; else x itself."""
    out: Tensor = block.se(x) if block.place == place else x
    return out
