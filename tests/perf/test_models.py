"""What the SE block and the cost counter take, beside the alternatives, in one run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

import senet
from bench.measure.count.cost import count, fvcore_counts
from bench.measure.count.operators import trace


class Plain(nn.Module):
    """The SE block as it is usually written: adaptive pooling, two linear layers, expand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        layers = (nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())
        self.pool, self.excitation = nn.AdaptiveAvgPool2d(1), nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.excitation(self.pool(x).flatten(1))
        return x * gate[:, :, None, None].expand_as(x)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "ours": lambda: senet.SqueezeExcitation(256),
    "timm": lambda: timm.layers.SEModule(256),
    "plain": lambda: Plain(256),
}


@pytest.mark.benchmark(group="SE block, forward, (16, 256, 32, 32)")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", BLOCKS)
def test_se_block_forward(
    benchmark: BenchmarkFixture, name: str, layout: torch.memory_format
) -> None:
    """The block is as fast as those of others, in either memory format."""
    block = BLOCKS[name]().eval()
    x = torch.randn(16, 256, 32, 32).contiguous(memory_format=layout)
    with torch.no_grad():
        assert benchmark(block, x).shape == x.shape


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: senet.build("resnet50"),
    "se_resnet50": lambda: senet.build("se_resnet50"),
    "timm seresnet50": lambda: timm.create_model("seresnet50", num_classes=10),
}


@pytest.mark.benchmark(group="forward, ImageNet stem, (16, 3, 32, 32)")
@pytest.mark.parametrize("name", NETWORKS)
def test_network_forward(benchmark: BenchmarkFixture, name: str) -> None:
    """Our SE-ResNet-50 is no slower than timm's."""
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        assert benchmark(network, torch.randn(16, 3, 32, 32)).shape == (16, 10)


COUNTS: dict[str, Callable[[nn.Module, int], object]] = {
    "all three, agreed": count,
    "fvcore alone": fvcore_counts,
    "operators and torch": trace,
}


@pytest.mark.benchmark(group="count SE-ResNet-50 at 32 × 32")
@pytest.mark.parametrize("name", COUNTS)
def test_count(benchmark: BenchmarkFixture, name: str) -> None:
    """Counting three ways costs little more than asking fvcore."""
    assert benchmark(COUNTS[name], senet.build("se_resnet50"), 32)
