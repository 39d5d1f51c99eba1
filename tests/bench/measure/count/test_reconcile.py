"""Every counter's total is taken apart to the last integer."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import senet
from bench.measure.count import reconcile as module
from bench.measure.count.reconcile import CounterRow, reconcile

# Elements that BatchNorm normalises in an (SE-)ResNet-50 with the ImageNet stem at 32 × 32.
NORMALISED = 226_816


def rows(model: nn.Module, image_size: int) -> dict[str, CounterRow]:
    return {row.counter: row for row in reconcile(model, image_size)}


@pytest.mark.parametrize(
    ("name", "macs", "extra"),
    [
        ("resnet50", 83_431_424, 2 * NORMALISED + 2048),
        ("se_resnet50", 85_946_368, 2 * NORMALISED),
    ],
)
def test_fvcore_and_torch_are_explained(name: str, macs: int, extra: int) -> None:
    """torch counts twice; fvcore adds BatchNorm and, being a module, torchvision's pooling."""
    found = rows(senet.build(name), 32)
    assert found["this project"].total == macs
    assert found["torch.utils.flop_counter"].total == 2 * macs
    assert found["fvcore"].total == macs + extra
    assert all(row.unexplained == 0 for row in found.values())
    assert [term.value for term in found["torch.utils.flop_counter"].terms] == [macs, macs]


def test_terms_and_the_unexplained_add_up_to_the_total() -> None:
    """Whatever is installed: nothing is left over for the models of the comparison."""
    for name in ("resnet18", "se_resnet18"):
        for row in reconcile(senet.build(name, stem="cifar"), 16):
            assert row.reason is None
            assert row.total == sum(term.value for term in row.terms) + row.unexplained
            assert row.unexplained == 0
            assert row.version
            assert row.leaves_out


@pytest.mark.skipif(not importlib.util.find_spec("thop"), reason="thop is not installed")
def test_thop_is_explained() -> None:
    """thop counts 4 for each element that BatchNorm normalises."""
    row = rows(senet.build("se_resnet50"), 32)["thop"]
    assert row.total == 85_946_368 + 4 * NORMALISED
    assert row.unexplained == 0


@pytest.mark.skipif(not importlib.util.find_spec("ptflops"), reason="ptflops is not installed")
def test_ptflops_is_explained() -> None:
    """ptflops counts biases, BatchNorm, and ReLU and pooling modules twice."""
    found = rows(senet.build("resnet50"), 32)
    relu, pooled = 196_096, 16_384 + 2_048
    extra = 10 + 2 * NORMALISED + 2 * relu + 2 * pooled
    assert found["ptflops (pytorch)"].total == 83_431_424 + extra
    assert found["ptflops (aten)"].total == 83_431_424 + 10
    assert found["ptflops (pytorch)"].unexplained == found["ptflops (aten)"].unexplained == 0


class PooledSE(nn.Module):
    """The same SE block with its squeeze spelled as a pooling module."""

    def __init__(self, block: senet.SqueezeExcitation) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = block.fc1, block.fc2

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.fc1(self.pool(x).flatten(1)).relu()).sigmoid()
        return x * gate[:, :, None, None]


def test_the_spelling_of_the_squeeze_moves_fvcore_and_not_this_project() -> None:
    """Two SE blocks that compute the same have the same MACs here and 64 more with fvcore."""
    conv, block = nn.Conv2d(3, 16, 1), senet.SqueezeExcitation(16)
    spelled = [nn.Sequential(conv, se) for se in (block, PooledSE(block))]
    found = [rows(model, 2) for model in spelled]
    x = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(spelled[0](x), spelled[1](x))
    assert found[0]["this project"].total == found[1]["this project"].total == 3 * 16 * 4 + 32
    assert found[1]["fvcore"].total - found[0]["fvcore"].total == 16 * 4
    assert found[0]["fvcore"].unexplained == found[1]["fvcore"].unexplained == 0


def test_what_is_not_understood_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that adds something new has it in `unexplained`."""
    model = nn.Conv2d(3, 2, 1)
    counters = {"fvcore": ("fvcore", lambda *_: 24 + 7)}
    monkeypatch.setattr(module, "COUNTERS", counters)
    assert rows(model, 2)["fvcore"].unexplained == 7


def test_a_counter_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is one line, and the other counters stand."""

    def fail(model: nn.Module, image_size: int) -> int:
        raise TypeError("no such thing\nat all")

    counters = module.COUNTERS | {"fvcore": ("fvcore", fail)}
    monkeypatch.setattr(module, "COUNTERS", counters)
    found = rows(nn.Conv2d(3, 2, 1), 2)
    assert found["fvcore"].total is None
    assert found["fvcore"].reason == "TypeError: no such thing"
    assert found["this project"].total == 24


def test_absent_counters_have_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is not mentioned."""
    counters = module.COUNTERS | {"thop": ("no_such_package", module.COUNTERS["thop"][1])}
    monkeypatch.setattr(module, "COUNTERS", counters)
    assert "thop" not in rows(nn.Conv2d(3, 2, 1), 2)
