"""Pre-activation ResNet and Wide ResNet from scratch: BatchNorm and ReLU before the convolutions.

He et al., Identity Mappings in Deep Residual Networks (1603.05027), and Zagoruyko and Komodakis,
Wide Residual Networks (1605.07146), which is the same network k times as wide, with dropout.
Shapes: B images, C channels, H × W positions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from senet.architecture import IMAGE_SIZES
from senet.attention import NONE, Attention
from senet.errors import positive_int
from senet.gates import block_gate, gated, halved
from senet.layers import cifar_conv
from senet.resnet import init_convs, make_stage


class PreActBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: (B, C_in, H, W) -> (B, C, H/s, W/s).

    The shortcut is the untouched input, or, where the shape changes, a projection of the activated
    one, as in both papers' code. The attention, named ``se``, stands at the end of the residual
    branch unless it says otherwise; ``pre`` is after the branch's first activation.
    """

    expansion = 1

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int,
        attention: Attention = NONE,
        side: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.place = attention.position
        self.se = block_gate(attention, side, stride, c_in=c_in, c_out=width)
        self.shortcut = make_projection(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + se(residual(x))."""
        active = F.relu(self.bn1(x), inplace=True)
        kept = x if self.shortcut is None else self.shortcut(active)
        out = self.conv1(gated(self, "pre", active))  # (B, C, H/s, W/s)
        out = self.dropout(F.relu(self.bn2(out), inplace=True))
        out = gated(self, "standard", self.conv2(out))
        out += gated(self, "identity", kept)
        return gated(self, "post", out)


class PreActBottleneck(nn.Module):
    """1×1, 3×3 and 1×1 beside a shortcut: (B, C_in, H, W) -> (B, 4·width, H/s, W/s).

    As `PreActBlock`, with the stride on the 3×3.
    """

    expansion = 4

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int,
        attention: Attention = NONE,
        side: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.place = attention.position
        self.se = block_gate(attention, side, stride, c_in=c_in, c_mid=width, c_out=c_out)
        self.shortcut = make_projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + se(residual(x))."""
        active = F.relu(self.bn1(x), inplace=True)
        kept = x if self.shortcut is None else self.shortcut(active)
        out = self.conv1(gated(self, "pre", active))  # (B, width, H, W)
        out = self.dropout(F.relu(self.bn2(out), inplace=True))
        out = F.relu(self.bn3(self.conv2(out)), inplace=True)  # (B, width, H/s, W/s)
        out = gated(self, "standard", self.conv3(gated(self, "conv3x3", out)))
        out += gated(self, "identity", kept)
        return gated(self, "post", out)


def make_projection(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """Return the convolution of a shortcut whose shape changes; None where it does not."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)


class PreActResNet(nn.Module):
    """Classify small images: (B, 3, H, W) -> logits (B, num_classes).

    ``depths`` are the numbers of blocks of the three stages, ``width`` is WRN's factor k on their
    channels, ``dropout`` the share of activations that training drops between the convolutions of
    a block (WRN, section 2.4). ``image_size`` matters only to an attention that is learnt for a
    size.
    """

    def __init__(
        self,
        block: type[PreActBlock] | type[PreActBottleneck],
        depths: Sequence[int],
        *,
        width: int = 1,
        dropout: float = 0.0,
        num_classes: int = 10,
        attention: Attention = NONE,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        positive_int("num_classes", num_classes)
        side = IMAGE_SIZES["cifar"] if image_size is None else image_size

        # With e = expansion and k = width.
        e, k = block.expansion, width
        gates = [attention.in_stage(number) for number in (1, 2, 3)]
        self.stem = nn.Sequential(OrderedDict(conv=cifar_conv(16)))  # (B, 16, H, W)
        self.stage1 = make_stage(block, 16, 16 * k, depths[0], 1, gates[0], side, dropout=dropout)
        # -> (B, 16·k·e, H, W)
        c_in = 16 * k * e
        self.stage2 = make_stage(block, c_in, 32 * k, depths[1], 2, gates[1], side, dropout=dropout)
        # -> (B, 32·k·e, H/2, W/2)
        c_in, side = 32 * k * e, halved(side, 2)
        self.stage3 = make_stage(block, c_in, 64 * k, depths[2], 2, gates[2], side, dropout=dropout)
        # -> (B, 64·k·e, H/4, W/4)
        c_in = 64 * k * e
        # The last block's sum is not activated yet.
        self.head = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(c_in), relu=nn.ReLU(inplace=True)))
        self.fc = nn.Linear(c_in, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, 3, H, W)."""
        x = self.stem(x)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.head(x).mean((2, 3))  # (B, 64·k·e)
        logits: Tensor = self.fc(x)
        return logits
