"""The parts that a residual network is put together from: the SE block and the two stems.

Shapes: B images, C channels, H × W positions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import ModelError, positive_int

# What the SE paper's ablations exchange. Squeezes: (B, C, H, W) -> (B, C), or, without one,
# (B, H, W, C), because FC layers have the channels last.
SQUEEZES: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: x.mean((2, 3)),
    "max": lambda x: x.amax((2, 3)),
    "none": lambda x: x.permute(0, 2, 3, 1),
}
EXCITATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what the whole image says about it (Hu et al., 1709.01507, section 3).

    Squeeze: the mean of every channel. Excitation: FC, ReLU, FC, sigmoid. Scale: multiply.
    ``reduction`` is the paper's r; the hidden width is ``channels // reduction``, rounded to a
    multiple of ``divisor`` (timm rounds to 8, the paper does not round). ``squeeze`` (avg, max,
    none) and ``excitation`` (sigmoid, tanh, relu) are the paper's ablations. ModelError when
    ``reduction`` exceeds ``channels``.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        bias: bool = True,
        divisor: int = 1,
        squeeze: str = "avg",
        excitation: str = "sigmoid",
    ) -> None:
        super().__init__()
        hidden = hidden_channels(channels, reduction, divisor)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)
        self.squeeze = squeeze
        self.excitation = excitation

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) scaled by one gate for every image and channel, in (0, 1).

        Without a squeeze there is a gate for every position; ``tanh`` and ``relu`` gates are in
        (-1, 1) and at least 0.
        """
        squeezed = SQUEEZES[self.squeeze](x)  # (B, C), or (B, H, W, C)
        hidden = F.relu(self.fc1(squeezed), inplace=True)  # (B, C / r), or (B, H, W, C / r)
        gate = EXCITATIONS[self.excitation](self.fc2(hidden))
        return x * (gate[..., None, None] if gate.ndim == 2 else gate.permute(0, 3, 1, 2))


def hidden_channels(channels: int, reduction: int, divisor: int = 1) -> int:
    """Return the width between the two FC layers: C / r, to the nearest multiple of ``divisor``."""
    positive_int("reduction", reduction)
    positive_int("divisor", divisor)
    if reduction > channels:
        raise ModelError(
            f"reduction {reduction} exceeds the {channels} channels of a block; "
            f"there it can be 1 to {channels}"
        )
    return max(divisor, (channels // reduction + divisor // 2) // divisor * divisor)


def cifar_conv(channels: int = 64) -> nn.Conv2d:
    """Return the 3×3 convolution, stride 1, that small images start with."""
    return nn.Conv2d(3, channels, 3, stride=1, padding=1, bias=False)


def imagenet_conv(channels: int = 64) -> nn.Conv2d:
    """Return the 7×7 convolution, stride 2, that large images start with."""
    return nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)


def cifar_stem(channels: int = 64) -> nn.Sequential:
    """Return the stem for small images, which keeps H × W (He et al., 1512.03385, section 4.2).

    It has 64 ``channels`` in networks that are made for large images and 16 in He et al.'s own.
    """
    return nn.Sequential(
        OrderedDict(
            conv=cifar_conv(channels),  # (B, 3, H, W) -> (B, channels, H, W)
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )


def imagenet_stem(channels: int = 64) -> nn.Sequential:
    """Return the stem for large images, which quarters H and W (He et al., table 1)."""
    return nn.Sequential(
        OrderedDict(
            conv=imagenet_conv(channels),  # (B, 3, H, W) -> (B, 64, H/2, W/2)
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(3, stride=2, padding=1),  # -> (B, 64, H/4, W/4)
        )
    )


STEMS: dict[str, Callable[[], nn.Sequential]] = {"cifar": cifar_stem, "imagenet": imagenet_stem}


def init_conv(conv: nn.Conv2d) -> None:
    """Draw a convolution's weights for ReLU networks (He et al., 1502.01852, fan out)."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
