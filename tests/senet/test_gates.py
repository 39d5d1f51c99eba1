"""Each rival of SE is the formula of its paper, and what timm computes where timm has it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from senet import Attention, ModelError
from senet.attention import KINDS
from senet.gates import GatherExcite, SimAM, block_gate, eca_kernel, make_gate

SIDE, CHANNELS = 6, 32
ALL = [
    *(Attention(kind) for kind in KINDS if kind != "none"),
    *(Attention("se", squeeze=s, excitation=e) for s in ("max", "none") for e in ("tanh", "relu")),
    *(Attention(kind, extent=4) for kind in ("ge_theta_minus", "ge_theta", "ge_theta_plus")),
]


def gate_of(attention: Attention, seed: int = 0) -> nn.Module:
    """Return a gate in double precision whose BatchNorms are no identities."""
    torch.manual_seed(seed)
    gate = make_gate(attention, CHANNELS, SIDE).double()
    for module in gate.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return gate.eval()


def images(channels: int = CHANNELS, side: int = SIDE) -> Tensor:
    torch.manual_seed(1)
    return 2 * torch.randn(3, channels, side, side, dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attention", ALL, ids=str)
def test_input_is_scaled_and_left_alone(attention: Attention) -> None:
    """The shape stays, zeros stay zeros, and nothing is done in place to the input."""
    gate, x = gate_of(attention), images()
    x[:, :, 2, 3] = 0
    before = x.clone()
    out = gate(x)
    assert torch.equal(x, before)
    assert out.shape == x.shape
    assert torch.equal(out[:, :, 2, 3], torch.zeros_like(out[:, :, 2, 3]))
    assert not torch.equal(out, x)


@pytest.mark.parametrize("attention", ALL, ids=str)
def test_gradients_are_those_of_finite_differences(attention: Attention) -> None:
    """Input and weights get the gradients that finite differences give."""
    gate = gate_of(attention)
    x = images()[:1].requires_grad_()
    assert torch.autograd.gradcheck(gate, (x,), fast_mode=True)
    names, values = [*zip(*gate.named_parameters(), strict=True)] or ((), ())

    def of_weights(*values: Tensor) -> Tensor:
        return torch.func.functional_call(gate, dict(zip(names, values, strict=True)), (x,))

    if values:
        assert torch.autograd.gradcheck(of_weights, values, fast_mode=True)


@pytest.mark.parametrize("attention", ALL, ids=str)
def test_channels_last_equals_contiguous(attention: Attention) -> None:
    """The memory format changes nothing but rounding."""
    gate, x = gate_of(attention), images()
    other = copy.deepcopy(gate).to(memory_format=torch.channels_last)
    close(other(x.to(memory_format=torch.channels_last)), gate(x))


@pytest.mark.parametrize(
    ("channels", "size"),
    [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_eca_looks_at_more_neighbours_where_there_are_more_channels(
    channels: int, size: int
) -> None:
    """The kernel is the odd number nearest to log2(C) / 2 + 1 / 2, as in timm."""
    assert eca_kernel(channels) == size
    assert EcaModule(channels).conv.kernel_size == (size,)


def test_eca_is_its_formula() -> None:
    """A channel's gate is the sigmoid of the weighed means of itself and its neighbours."""
    gate, x = gate_of(Attention("eca")), images()
    w = gate.get_parameter("conv.weight")[0, 0]
    means = F.pad(torch.einsum("bchw->bc", x) / SIDE**2, (1, 1))
    logits = w[0] * means[:, :-2] + w[1] * means[:, 1:-1] + w[2] * means[:, 2:]
    close(gate(x), x / (1 + torch.exp(-logits))[..., None, None])


def test_eca_and_cbam_are_timm_s() -> None:
    """With the same weights they give timm's output."""
    x = images()
    eca, cbam = gate_of(Attention("eca")), gate_of(Attention("cbam", 2, bias=False))
    theirs = EcaModule(CHANNELS).double()
    theirs.load_state_dict(eca.state_dict())
    close(eca(x), theirs(x))
    other = CbamModule(CHANNELS, rd_ratio=1 / 2).double().eval()
    state = {
        key.replace("spatial.conv", "spatial.conv.conv").replace("spatial.bn", "spatial.conv.bn"): v
        for key, v in cbam.state_dict().items()
    }
    state = {k: v[..., None, None] if "fc" in k else v for k, v in state.items()}
    other.load_state_dict(state)
    close(cbam(x), other(x))


def test_theta_minus_without_an_extent_is_the_sigmoid_of_the_mean() -> None:
    """GE-θ- over everything has no weights: gate = sigmoid(mean of the channel)."""
    gate, x = make_gate(Attention("ge_theta_minus"), CHANNELS, SIDE), images()
    assert not list(gate.parameters())
    close(gate(x), x * torch.sigmoid(x.mean((2, 3), keepdim=True)))


def test_theta_minus_with_an_extent_gathers_neighbourhoods() -> None:
    """With extent 2 the gate at (0, 0) is of the mean of the 2 × 2 positions that exist there.

    The window is 3 × 3 around every second position; what lies outside is not counted.
    """
    gate = make_gate(Attention("ge_theta_minus", extent=2), 1, 4)
    x = torch.arange(16.0, dtype=torch.float64).reshape(1, 1, 4, 4)
    mean_corner, mean_inside = (0 + 1 + 4 + 5) / 4, (5 + 6 + 7 + 9 + 10 + 11 + 13 + 14 + 15) / 9
    out = gate(x)[0, 0]
    assert out[1, 1].item() == pytest.approx(5 / (1 + math.exp(-mean_corner)))
    assert out[3, 2].item() == pytest.approx(14 / (1 + math.exp(-mean_inside)))


def test_theta_is_one_weighed_sum_a_channel() -> None:
    """GE-θ over everything: gate = sigmoid(BatchNorm(sum of weight times position))."""
    gate, x = gate_of(Attention("ge_theta")), images()
    w, bn = gate.get_parameter("gather.conv1.weight"), gate.get_submodule("gather.bn1")
    sums = torch.einsum("chw,bchw->bc", w[:, 0], x)[..., None, None]
    close(gate(x), x * torch.sigmoid(bn(sums)))


def test_theta_plus_excites_as_se_does() -> None:
    """GE-θ+ is θ's gather, then FC, ReLU, FC and sigmoid; its MLP has SE's sizes."""
    gate, x = gate_of(Attention("ge_theta_plus", reduction=8)), images()
    gathered = gate.get_submodule("gather")(x)[:, :, 0, 0]
    fc1, fc2 = (gate.get_parameter(f"mlp.fc{n}.weight")[..., 0, 0] for n in (1, 2))
    b1, b2 = (gate.get_parameter(f"mlp.fc{n}.bias") for n in (1, 2))
    assert fc1.shape == (4, CHANNELS)
    hidden = (gathered @ fc1.T + b1).clamp(min=0)
    close(gate(x), x * torch.sigmoid(hidden @ fc2.T + b2)[..., None, None])


@pytest.mark.parametrize(("extent", "convs"), [(2, 1), (4, 2), (8, 3)])
def test_a_learnt_extent_is_a_chain_of_strided_convolutions(extent: int, convs: int) -> None:
    """log2(extent) depth-wise 3×3 convolutions of stride 2, each with BatchNorm."""
    gate = make_gate(Attention("ge_theta", extent=extent), CHANNELS, SIDE)
    found = [m for m in gate.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.groups, m.stride, m.kernel_size) for m in found] == convs * [
        (CHANNELS, (2, 2), (3, 3))
    ]
    x = torch.randn(2, CHANNELS, 16, 16)
    gathered = gate.get_submodule("gather")(x)
    assert gathered.shape == (2, CHANNELS, 16 // extent, 16 // extent)
    assert gate(x).shape == x.shape  # any size, not only the one it was built for


def test_a_gather_over_everything_serves_one_size() -> None:
    """Another size of image is refused, and the way out is named."""
    gate = make_gate(Attention("ge_theta"), CHANNELS, 8)
    with pytest.raises(ModelError) as caught:
        gate(images())
    assert str(caught.value) == (
        "this network gathers over 8 × 8 positions where the images have 6 × 6: "
        "build it with their image_size, or give ge an extent"
    )
    assert isinstance(gate, GatherExcite)


def test_simam_is_its_formula() -> None:
    """Equation 5: E = (t - mean)² / (4 (variance + λ)) + 1/2, and the gate is its sigmoid."""
    x = images()
    variance = x.var((2, 3), unbiased=True, keepdim=True)
    energy = (x - x.mean((2, 3), keepdim=True)) ** 2 / (4 * (variance + 1e-4)) + 0.5
    close(SimAM()(x), x / (1 + torch.exp(-energy)))


def test_simam_of_one_position_is_finite() -> None:
    """Where there is one position it has no variance, and the gate is sigmoid(1/2)."""
    x = torch.full((2, 3, 1, 1), 2.0)
    torch.testing.assert_close(SimAM()(x), x * 0.6224593312)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"position": "pre"}, (16, 8)),
        ({"position": "conv3x3"}, (8, 4)),
        ({"position": "standard"}, (32, 4)),
        ({"position": "identity"}, (32, 4)),
        ({"position": "post"}, (32, 4)),
    ],
)
def test_a_gate_has_the_size_of_its_place(options: dict[str, Any], place: tuple[int, int]) -> None:
    """Channels and positions are those before, inside or after the strided convolution."""
    attention = Attention("ge_theta", **options)
    gate = block_gate(attention, 8, 2, c_in=16, c_mid=8, c_out=32)
    weight = gate.get_parameter("gather.conv1.weight")
    assert (weight.shape[0], weight.shape[-1]) == place


@pytest.mark.parametrize("kind", ["se", "cbam", "ge_theta_plus"])
def test_a_reduction_above_the_channels_is_refused(kind: str) -> None:
    """The message names both numbers."""
    with pytest.raises(ModelError, match="reduction 33 exceeds the 32 channels"):
        make_gate(Attention(kind, reduction=33), CHANNELS, SIDE)
