"""ResNet from scratch, with attention or without: two blocks, and a network of them for each size.

The layout is ResNet v1.5 (stride on the 3×3), the one torchvision's ResNet has, so that a plain
model and one with attention of the same depth differ by the attention and by nothing else.
Shapes: B images, C channels, H × W positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from senet.architecture import IMAGE_SIZES
from senet.attention import NONE, Attention
from senet.errors import positive_int, unknown
from senet.gates import block_gate, gated, halved
from senet.layers import STEMS, cifar_stem, init_conv


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: (B, C_in, H, W) -> (B, C, H/s, W/s).

    He et al. (1512.03385), figure 5 left. The attention, named ``se`` whatever its kind, stands
    after the last BatchNorm and before the addition (Hu et al., figure 3) unless it says otherwise.
    ``side`` is H and W, which only some attentions need.
    """

    expansion = 1

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int,
        attention: Attention = NONE,
        side: int = 1,
        shortcut: str = "B",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.place = attention.position
        self.se = block_gate(attention, side, stride, c_in=c_in, c_out=width)
        self.shortcut = make_shortcut(c_in, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + se(residual(x)))."""
        out = gated(self, "pre", x)
        out = F.relu(self.bn1(self.conv1(out)), inplace=True)  # (B, C, H/s, W/s)
        out = gated(self, "standard", self.bn2(self.conv2(out)))
        # In place: the gradients of the gate's product and of the sum do not need its result.
        out += gated(self, "identity", self.shortcut(x))
        return gated(self, "post", F.relu(out, inplace=True))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 beside a shortcut: (B, C_in, H, W) -> (B, 4·width, H/s, W/s).

    He et al. (1512.03385), figure 5 right, with the stride on the 3×3. The attention, named ``se``
    whatever its kind, stands after the third BatchNorm and before the addition (Hu et al.,
    figure 3) unless it says otherwise. ``side`` is H and W, which only some attentions need.
    """

    expansion = 4

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int,
        attention: Attention = NONE,
        side: int = 1,
        shortcut: str = "B",
    ) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.place = attention.position
        self.se = block_gate(attention, side, stride, c_in=c_in, c_mid=width, c_out=c_out)
        self.shortcut = make_shortcut(c_in, c_out, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + se(residual(x)))."""
        out = gated(self, "pre", x)
        out = F.relu(self.bn1(self.conv1(out)), inplace=True)  # (B, width, H, W)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)  # (B, width, H/s, W/s)
        out = gated(self, "conv3x3", out)
        out = gated(self, "standard", self.bn3(self.conv3(out)))  # (B, 4·width, H/s, W/s)
        # In place: the gradients of the gate's product and of the sum do not need its result.
        out += gated(self, "identity", self.shortcut(x))
        return gated(self, "post", F.relu(out, inplace=True))


def make_shortcut(c_in: int, c_out: int, stride: int, kind: str = "B") -> nn.Module:
    """Return the identity, or, where the shape changes, zeros (A) or a projection (B).

    He et al. (1512.03385), section 3.3, options A and B.
    """
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    if kind == "A":
        return ZeroShortcut(c_in, c_out, stride)
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class ZeroShortcut(nn.Module):
    """Take every s-th position and put zeros for new channels, half of them on either side.

    On which side the zeros stand is all the same to training; akamaster/pytorch_resnet_cifar10,
    whose weights are the ones in use, has them on both.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, H/s, W/s)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class ResNet(nn.Module):
    """Classify images of any size: (B, 3, H, W) -> logits (B, num_classes).

    ``depths`` are the numbers of blocks of the four stages (He et al., 1512.03385, table 1; Hu et
    al., table 1). ``image_size`` matters only to an attention that is learnt for a size; by
    default it is 224 with the ImageNet stem and 32 with the CIFAR stem.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        stem: str = "imagenet",
        num_classes: int = 1000,
        attention: Attention = NONE,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        positive_int("num_classes", num_classes)
        image_size = IMAGE_SIZES[stem] if image_size is None else image_size
        side = image_size if stem == "cifar" else halved(image_size, 4)

        # With e = expansion; at 224 × 224 the ImageNet stem leaves 56 × 56, at 32 × 32 the CIFAR
        # stem leaves 32 × 32.
        e = block.expansion
        gates = [attention.in_stage(number) for number in (1, 2, 3, 4)]
        self.stem = STEMS[stem]()  # (B, 64, H, W)
        self.stage1 = make_stage(block, 64, 64, depths[0], 1, gates[0], side)
        # -> (B, 64·e, H, W)
        self.stage2 = make_stage(block, 64 * e, 128, depths[1], 2, gates[1], side)
        # -> (B, 128·e, H/2, W/2)
        self.stage3 = make_stage(block, 128 * e, 256, depths[2], 2, gates[2], halved(side, 2))
        # -> (B, 256·e, H/4, W/4)
        self.stage4 = make_stage(block, 256 * e, 512, depths[3], 2, gates[3], halved(side, 4))
        # -> (B, 512·e, H/8, W/8)
        self.fc = nn.Linear(512 * e, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, 3, H, W)."""
        x = self.stem(x)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = x.mean((2, 3))  # (B, 512·e)
        logits: Tensor = self.fc(x)
        return logits


class CifarResNet(nn.Module):
    """Classify small images: (B, 3, H, W) -> logits (B, num_classes).

    The thin networks of He et al. (1512.03385), section 4.2: a 3×3 convolution to 16 channels, and
    three stages. ``shortcut`` is A in the paper; with B it has 0.26 M multiply-accumulates more.
    ``image_size`` matters only to an attention that is learnt for a size.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        num_classes: int = 10,
        attention: Attention = NONE,
        image_size: int | None = None,
        shortcut: str = "A",
    ) -> None:
        super().__init__()
        positive_int("num_classes", num_classes)
        side = IMAGE_SIZES["cifar"] if image_size is None else image_size

        # With e = expansion.
        e = block.expansion
        gates = [attention.in_stage(number) for number in (1, 2, 3)]
        self.stem = cifar_stem(16)  # (B, 16, H, W)
        self.stage1 = make_stage(block, 16, 16, depths[0], 1, gates[0], side, shortcut=shortcut)
        # -> (B, 16·e, H, W)
        self.stage2 = make_stage(block, 16 * e, 32, depths[1], 2, gates[1], side, shortcut=shortcut)
        # -> (B, 32·e, H/2, W/2)
        side = halved(side, 2)
        self.stage3 = make_stage(block, 32 * e, 64, depths[2], 2, gates[2], side, shortcut=shortcut)
        # -> (B, 64·e, H/4, W/4)
        self.fc = nn.Linear(64 * e, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, 3, H, W)."""
        x = self.stem(x)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = x.mean((2, 3))  # (B, 64·e)
        logits: Tensor = self.fc(x)
        return logits


def make_stage(
    block: Any,
    c_in: int,
    width: int,
    depth: int,
    stride: int,
    attention: Attention,
    side: int,
    **options: Any,
) -> nn.Sequential:
    """Return ``depth`` blocks, of which the first has the stride and sees side × side positions."""
    c_out, side_out = width * block.expansion, halved(side, stride)
    first = block(c_in, width, stride, attention, side, **options)
    rest = (block(c_out, width, 1, attention, side_out, **options) for _ in range(1, depth))
    return nn.Sequential(first, *rest)


def init_convs(network: nn.Module) -> None:
    """Draw the weights of all two-dimensional convolutions as `init_conv` does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            init_conv(module)
