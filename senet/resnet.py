"""SE-ResNet from scratch: two blocks, four stages, one network.

The layout is ResNet v1.5 (stride on the 3×3), the one torchvision's ResNet has, so that a plain
and an SE model of the same depth differ by the SE blocks and by nothing else.
Shapes: B images, C channels, H × W positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import positive_int, unknown
from senet.layers import STEMS, SqueezeExcitation, init_conv


class SEBasicBlock(nn.Module):
    """Two 3×3 convolutions and an SE block beside a shortcut: (B, C_in, H, W) -> (B, C, H/s, W/s).

    He et al. (1512.03385), figure 5 left; the SE block stands after the last BatchNorm and before
    the addition (Hu et al., figure 3).
    """

    expansion = 1

    def __init__(
        self, c_in: int, width: int, stride: int, reduction: int, se_bias: bool, se_divisor: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = SqueezeExcitation(width, reduction, se_bias, se_divisor)
        self.shortcut = make_shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + se(residual(x)))."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (B, C, H/s, W/s)
        out = self.se(self.bn2(self.conv2(out)))
        # In place: the gradients of the gate's product and of the sum do not need its result.
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class SEBottleneck(nn.Module):
    """1×1, 3×3, 1×1 and an SE block beside a shortcut: (B, C_in, H, W) -> (B, 4·width, H/s, W/s).

    He et al. (1512.03385), figure 5 right, with the stride on the 3×3; the SE block stands after
    the third BatchNorm and before the addition (Hu et al., figure 3).
    """

    expansion = 4

    def __init__(
        self, c_in: int, width: int, stride: int, reduction: int, se_bias: bool, se_divisor: int
    ) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.se = SqueezeExcitation(c_out, reduction, se_bias, se_divisor)
        self.shortcut = make_shortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + se(residual(x)))."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (B, width, H, W)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)  # (B, width, H/s, W/s)
        out = self.se(self.bn3(self.conv3(out)))  # (B, 4·width, H/s, W/s)
        # In place: the gradients of the gate's product and of the sum do not need its result.
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


def make_shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return the identity, or a projection where the shape changes (He et al., option B)."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class SEResNet(nn.Module):
    """Classify images: (B, 3, H, W) -> logits (B, num_classes).

    ``depths`` are the numbers of blocks of the four stages (Hu et al., table 1).
    """

    def __init__(
        self,
        block: type[SEBasicBlock] | type[SEBottleneck],
        depths: Sequence[int],
        *,
        stem: str = "imagenet",
        num_classes: int = 1000,
        reduction: int = 16,
        se_bias: bool = True,
        se_divisor: int = 1,
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        positive_int("num_classes", num_classes)

        def stage(c_in: int, width: int, depth: int, stride: int) -> nn.Sequential:
            c_out = width * block.expansion
            first = block(c_in, width, stride, reduction, se_bias, se_divisor)
            rest = (block(c_out, width, 1, reduction, se_bias, se_divisor) for _ in range(1, depth))
            return nn.Sequential(first, *rest)

        # With e = expansion; at 224 × 224 the ImageNet stem leaves 56 × 56, at 32 × 32 the CIFAR
        # stem leaves 32 × 32.
        e = block.expansion
        self.stem = STEMS[stem]()  # (B, 64, H, W)
        self.stage1 = stage(64, 64, depths[0], stride=1)  # (B, 64·e, H, W)
        self.stage2 = stage(64 * e, 128, depths[1], stride=2)  # (B, 128·e, H/2, W/2)
        self.stage3 = stage(128 * e, 256, depths[2], stride=2)  # (B, 256·e, H/4, W/4)
        self.stage4 = stage(256 * e, 512, depths[3], stride=2)  # (B, 512·e, H/8, W/8)
        self.fc = nn.Linear(512 * e, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_conv(module)

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
