"""The SE block is the paper's formula, and the stems have the shapes they promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from senet.errors import ModelError
from senet.layers import STEMS, SqueezeExcitation, hidden_channels

sizes = st.integers(1, 5)


def formula(block: SqueezeExcitation, u: Tensor) -> Tensor:
    """Equations 2 to 4 of the paper, written with sums: z, s, and s times u."""
    z = torch.einsum("bchw->bc", u) / (u.shape[2] * u.shape[3])
    hidden = torch.einsum("hc,bc->bh", block.fc1.weight, z)
    if block.fc1.bias is not None:
        hidden = hidden + block.fc1.bias
    logits = torch.einsum("ch,bh->bc", block.fc2.weight, hidden.clamp(min=0))
    if block.fc2.bias is not None:
        logits = logits + block.fc2.bias
    s = 1 / (1 + torch.exp(-logits))
    return torch.einsum("bc,bchw->bchw", s, u)


@settings(max_examples=40, deadline=None)
@given(
    batch=sizes,
    groups=sizes,
    height=sizes,
    width=sizes,
    reduction=st.integers(1, 4),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_block_equals_the_formula_of_the_paper(
    batch: int, groups: int, height: int, width: int, reduction: int, bias: bool, seed: int
) -> None:
    """For any shape, reduction and bias the block computes equations 2 to 4."""
    torch.manual_seed(seed)
    block = SqueezeExcitation(groups * reduction, reduction, bias).double()
    u = 3 * torch.randn(batch, groups * reduction, height, width, dtype=torch.float64)
    torch.testing.assert_close(block(u), formula(block, u), rtol=1e-12, atol=1e-12)


def test_hand_computed_example() -> None:
    """Two channels of means 1 and 3, weights of one, no bias: both gates are sigmoid(4)."""
    block = SqueezeExcitation(2, reduction=2, bias=False)
    torch.nn.init.ones_(block.fc1.weight)
    torch.nn.init.ones_(block.fc2.weight)
    u = torch.tensor([[[[0.0, 2.0]], [[3.0, 3.0]]]])
    gate = 0.9820137900379085  # 1 / (1 + e^-4)
    expected = torch.tensor([[[[0.0, 2 * gate]], [[3 * gate, 3 * gate]]]])
    torch.testing.assert_close(block(u), expected)


def test_gate_is_between_zero_and_one_and_one_number_per_channel() -> None:
    """On an input of ones the output is the gate: inside (0, 1) and constant over positions."""
    torch.manual_seed(0)
    gate = SqueezeExcitation(32)(torch.ones(4, 32, 5, 3))
    assert gate.min() > 0
    assert gate.max() < 1
    assert torch.equal(gate, gate[:, :, :1, :1].expand_as(gate))


def test_gradients_are_those_of_finite_differences() -> None:
    """Input, weights and biases get the gradients that finite differences give."""
    torch.manual_seed(0)
    block = SqueezeExcitation(4, reduction=2).double()
    u = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (u,))
    names, values = zip(*block.named_parameters(), strict=True)

    def of_weights(*values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(of_weights, values)


def test_block_leaves_its_input_alone() -> None:
    """The input is the same after the call: nothing is done in place to it."""
    torch.manual_seed(0)
    u = torch.randn(2, 16, 4, 4)
    before = u.clone()
    SqueezeExcitation(16)(u)
    assert torch.equal(u, before)


@pytest.mark.parametrize(
    ("channels", "reduction", "divisor", "hidden"),
    [
        (256, 16, 1, 16),
        (64, 16, 1, 4),
        (64, 16, 8, 8),
        (64, 64, 1, 1),
        (100, 16, 1, 6),
        (192, 16, 8, 16),  # 12, half-way, goes up as in timm
        (2048, 16, 8, 128),
    ],
)
def test_hidden_width(channels: int, reduction: int, divisor: int, hidden: int) -> None:
    """The hidden width is C / r rounded down, then to the nearest multiple of the divisor."""
    assert hidden_channels(channels, reduction, divisor) == hidden


@pytest.mark.parametrize("reduction", [0, -1, 65, True, 2.0, "16"])
def test_impossible_reductions_are_refused(reduction: object) -> None:
    """Reductions below 1, above the channels or not integers fail and are named."""
    with pytest.raises(ModelError, match=r"reduction .*") as caught:
        SqueezeExcitation(64, reduction)  # type: ignore[arg-type]
    assert str(reduction) in str(caught.value)


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("imagenet", 8)])
def test_stems_keep_or_quarter_the_image(stem: str, side: int) -> None:
    """At 32 × 32 the CIFAR stem leaves 64 × 32 × 32 and the ImageNet stem 64 × 8 × 8."""
    assert STEMS[stem]()(torch.zeros(2, 3, 32, 32)).shape == (2, 64, side, side)


@pytest.mark.parametrize("squeeze", ["avg", "max", "none"])
@pytest.mark.parametrize("excitation", ["sigmoid", "tanh", "relu"])
def test_ablations_exchange_what_they_say(squeeze: str, excitation: str) -> None:
    """Mean, maximum or every position for itself; then FC, ReLU, FC; then the gate's function."""
    torch.manual_seed(0)
    block = SqueezeExcitation(8, 2, squeeze=squeeze, excitation=excitation).double()
    u = 3 * torch.randn(2, 8, 4, 5, dtype=torch.float64)
    z = {  # (B, C, H, W), or (B, C, 1, 1)
        "avg": u.sum((2, 3), keepdim=True) / 20,
        "max": u.flatten(2).max(2).values[..., None, None],
        "none": u,
    }[squeeze]
    hidden = torch.einsum("hc,bcxy->bhxy", block.fc1.weight, z)
    hidden = (hidden + block.fc1.bias[:, None, None]).clamp(min=0)
    logits = torch.einsum("ch,bhxy->bcxy", block.fc2.weight, hidden)
    logits = logits + block.fc2.bias[:, None, None]
    gate = {
        "sigmoid": 1 / (1 + torch.exp(-logits)),
        "tanh": (torch.exp(logits) - torch.exp(-logits)) / (torch.exp(logits) + torch.exp(-logits)),
        "relu": logits.clamp(min=0),
    }[excitation]
    torch.testing.assert_close(block(u), u * gate, rtol=1e-12, atol=1e-12)
    assert gate.std() > 0.01  # the comparison says something
