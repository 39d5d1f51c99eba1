"""The networks made for CIFAR are those of their papers: sizes, shapes, order, and they learn."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import senet
from senet import Attention
from senet.layers import SqueezeExcitation
from senet.preact import PreActBlock, PreActBottleneck, PreActResNet
from senet.resnet import BasicBlock, Bottleneck, CifarResNet, ZeroShortcut


def sizes(name: str, **options: object) -> tuple[int, int]:
    """Return parameters, and multiply-accumulates of one 32 × 32 image as torch counts them."""
    with torch.device("meta"):
        model = senet.build(name, **options).eval()  # type: ignore[arg-type]
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(1, 3, 32, 32))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


# Parameters: He et al., table 6 (0.27, 0.46, 0.66, 0.85, 1.7 M), to the last one as several
# repositories count them. MACs: by hand, 442,368 for the stem, 2,359,296 for a 3×3 convolution
# within a stage, 1,179,648 for one between stages, 640 for the classifier.
@pytest.mark.parametrize(
    ("depth", "params", "macs"),
    [
        (20, 269_722, 40_551_040),
        (32, 464_154, 68_862_592),
        (44, 658_586, 97_174_144),
        (56, 853_018, 125_485_696),
        (110, 1_727_962, 252_887_680),
    ],
)
def test_the_thin_networks_have_the_sizes_of_the_paper(depth: int, params: int, macs: int) -> None:
    """ResNet-20 to -110 with option A, whose shortcuts cost nothing."""
    assert sizes(f"resnet{depth}") == (params, macs)


# chenyaofo/pytorch-cifar-models lists 40.81, 69.12, 97.44 and 125.75 M; osmr/imgclsmob lists
# 272,474, 855,770 and 1,730,714 parameters.
@pytest.mark.parametrize(
    ("depth", "params", "macs"),
    [
        (20, 272_474, 40_813_184),
        (32, 466_906, 69_124_736),
        (44, 661_338, 97_436_288),
        (56, 855_770, 125_747_840),
        (110, 1_730_714, 253_149_824),
    ],
)
def test_projections_give_the_sizes_of_the_repositories(depth: int, params: int, macs: int) -> None:
    """With option B two projections are added: 2,752 parameters and 262,144 MACs."""
    assert sizes(f"resnet{depth}", shortcut="B") == (params, macs)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("resnet164", 1_704_154),
        ("preact_resnet110", 1_730_522),
        ("preact_resnet164", 1_703_258),
        ("wrn28_10", 36_479_194),
        ("se_resnet164", 1_906_258),
    ],
)
def test_parameters_are_those_of_osmr_imgclsmob(name: str, params: int) -> None:
    """Networks of bottlenecks, pre-activation and wide ones, to the last parameter."""
    assert sizes(name)[0] == params


def test_wrn16_4_has_the_paper_s_2_7_million() -> None:
    """Zagoruyko and Komodakis: WRN-16-4 has 2.7 M parameters, at half the width of WRN-16-8."""
    params, macs = sizes("wrn16_4")
    assert params == 2_748_890
    stem, head = 27 * 16 * 1024, 256 * 10
    first = (9 * 16 * 64 + 16 * 64 + 3 * 9 * 64 * 64) * 1024
    second = (9 * 64 * 128 + 64 * 128 + 3 * 9 * 128 * 128) * 256
    third = (9 * 128 * 256 + 128 * 256 + 3 * 9 * 256 * 256) * 64
    assert macs == stem + first + second + third + head


def test_wrn16_8_has_the_paper_s_eleven_million() -> None:
    """Zagoruyko and Komodakis, table 5: WRN-16-8 has 11.0 M, WRN-28-10 36.5 M parameters."""
    params, macs = sizes("wrn16_8")
    assert params == 10_961_370
    assert round(params / 1e6, 1) == 11.0
    # By hand: stem, then per stage the two convolutions of the first block, the projection, and
    # the two of the second; classifier.
    stem, head = 27 * 16 * 1024, 512 * 10
    first = (9 * 16 * 128 + 16 * 128 + 3 * 9 * 128 * 128) * 1024
    second = (9 * 128 * 256 + 128 * 256 + 3 * 9 * 256 * 256) * 256
    third = (9 * 256 * 512 + 256 * 512 + 3 * 9 * 512 * 512) * 64
    assert macs == stem + first + second + third + head


# osmr/imgclsmob: SE-ResNet-20, -56 and -110 minus ResNet-20, -56 and -110.
@pytest.mark.parametrize(("depth", "added"), [(20, 2_373), (56, 7_119), (110, 14_238)])
def test_se_adds_what_the_formula_says(depth: int, added: int) -> None:
    """2·C·(C/r) + C/r + C parameters and 2·C·(C/r) MACs a block, n blocks of 16, 32 and 64."""
    plain, se = sizes(f"resnet{depth}"), sizes(f"se_resnet{depth}")
    n = (depth - 2) // 6
    assert se[0] - plain[0] == added
    assert added == n * sum(2 * c * (c // 16) + c // 16 + c for c in (16, 32, 64))
    assert se[1] - plain[1] == n * sum(2 * c * (c // 16) for c in (16, 32, 64))


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("eca_resnet56", 9 * 3 * 3),  # a kernel of 3 in each block
        ("simam_resnet56", 0),
        ("ge_theta_minus_resnet56", 0),
        # a depth-wise kernel of 32², 16², 8² and a BatchNorm for each channel
        ("ge_theta_resnet56", 9 * sum(c * (s * s + 2) for c, s in ((16, 32), (32, 16), (64, 8)))),
    ],
)
def test_what_the_rivals_add(name: str, added: int) -> None:
    """Parameters of the lighter kinds, by their formulas."""
    assert sizes(name)[0] - sizes("resnet56")[0] == added


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet20", (16, 16, 32, 64)),
        ("resnet164", (16, 64, 128, 256)),
        ("preact_resnet110", (16, 16, 32, 64)),
        ("preact_resnet164", (16, 64, 128, 256)),
        ("wrn16_8", (16, 128, 256, 512)),
    ],
)
def test_shape_trail(name: str, channels: tuple[int, ...]) -> None:
    """Stem and stages leave the channels that the comments promise, at 32, 32, 16 and 8."""
    with torch.device("meta"):
        model = senet.build(name)
        x = torch.empty(2, 3, 32, 32)
        trail = []
        for child in ("stem", "stage1", "stage2", "stage3"):
            x = model.get_submodule(child)(x)
            trail.append(tuple(x.shape))
    expected = zip(channels, (32, 32, 16, 8), strict=True)
    assert trail == [(2, c, side, side) for c, side in expected]


def test_depths_are_numbers_of_layers() -> None:
    """ResNets count the branches' convolutions, stem and classifier; WRN all convolutions."""
    for name in ("resnet20", "resnet110", "resnet164", "preact_resnet164", "wrn16_8", "wrn28_10"):
        with torch.device("meta"):
            model = senet.build(name)
        convs = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        in_branches = [key for key in convs if "shortcut" not in key]
        counted = len(convs) if name.startswith("wrn") else len(in_branches) + 1
        assert counted == senet.facts(name).depth, name


def test_option_a_takes_every_second_position_and_adds_zeros() -> None:
    """Half of the new channels stand before the old ones and half behind; no weights."""
    x = torch.randn(2, 4, 6, 6)
    shortcut = ZeroShortcut(4, 8, 2)
    out = shortcut(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()
    assert not list(shortcut.parameters())


def test_preact_block_is_the_paper_s() -> None:
    """bn, relu, conv, bn, relu, conv; the shortcut projects the activated input."""
    torch.manual_seed(0)
    block = PreActBlock(8, 16, 2).eval()
    x = torch.randn(2, 8, 6, 6)
    active = F.relu(block.bn1(x))
    residual = block.conv2(F.relu(block.bn2(block.conv1(active))))
    assert isinstance(block.shortcut, nn.Conv2d)
    torch.testing.assert_close(block(x), residual + block.shortcut(active))
    same = PreActBlock(8, 8, 1).eval()
    residual = same.conv2(F.relu(same.bn2(same.conv1(F.relu(same.bn1(x))))))
    torch.testing.assert_close(same(x), x + residual)


def test_preact_bottleneck_is_the_paper_s_with_the_stride_on_the_3x3() -> None:
    """bn, relu, 1×1, bn, relu, 3×3 with the stride, bn, relu, 1×1."""
    torch.manual_seed(0)
    block = PreActBottleneck(8, 4, 2).eval()
    x = torch.randn(2, 8, 6, 6)
    active = F.relu(block.bn1(x))
    out = block.conv2(F.relu(block.bn2(block.conv1(active))))
    assert out.shape == (2, 4, 3, 3)
    assert isinstance(block.shortcut, nn.Conv2d)
    expected = block.conv3(F.relu(block.bn3(out))) + block.shortcut(active)
    torch.testing.assert_close(block(x), expected)


BLOCKS = (BasicBlock, Bottleneck, PreActBlock, PreActBottleneck)


def through(block: nn.Module, place: str, x: Tensor) -> Tensor:
    """Compute a block step by step, with its gate in one place, as the ablation draws it."""
    b = block

    def gate(here: str, value: Tensor) -> Tensor:
        gated: Tensor = b.se(value) if here == place else value  # type: ignore[operator]
        return gated

    def steps(*names: str) -> list[nn.Module]:
        return [block.get_submodule(name) for name in names]

    if isinstance(block, BasicBlock | Bottleneck):
        conv1, bn1, conv2, bn2, shortcut = steps("conv1", "bn1", "conv2", "bn2", "shortcut")
        out = bn2(conv2(F.relu(bn1(conv1(gate("pre", x))))))
        if isinstance(block, Bottleneck):
            out = block.bn3(block.conv3(gate("conv3x3", F.relu(out))))
        total = gate("standard", out) + gate("identity", shortcut(x))
        return gate("post", F.relu(total))
    conv1, bn1, conv2, bn2 = steps("conv1", "bn1", "conv2", "bn2")
    active = F.relu(bn1(x))
    out = conv2(F.relu(bn2(conv1(gate("pre", active)))))
    if isinstance(block, PreActBottleneck):
        out = block.conv3(gate("conv3x3", F.relu(block.bn3(out))))
    kept = x if block.shortcut is None else block.shortcut(active)  # type: ignore[operator]
    return gate("post", gate("standard", out) + gate("identity", kept))


@pytest.mark.parametrize("block_type", BLOCKS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("place", ["standard", "pre", "post", "identity", "conv3x3"])
def test_the_gate_stands_in_its_place(block_type: type[nn.Module], stride: int, place: str) -> None:
    """Each position of the paper's ablation (section 6.5), in every kind of block."""
    if place == "conv3x3" and block_type in (BasicBlock, PreActBlock):
        with pytest.raises(senet.ModelError, match="position conv3x3 is inside a bottleneck"):
            block_type(16, 16, stride, Attention("se", position=place))
        return
    torch.manual_seed(0)
    attention = Attention("se", reduction=4, position=place)
    block = block_type(16, 16, stride, attention, 6).double()
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64, requires_grad=True)
    twin = copy.deepcopy(block)
    found, expected = block(x), through(twin, place, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, ours), theirs in zip(
        block.named_parameters(), twin.parameters(), strict=True
    ):  # what is done in place changes no gradient
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)
    assert any(parameter.grad.any() for parameter in block.se.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize(("stages", "blocks"), [((1,), 3), ((2, 3), 6), (None, 9)])
def test_stages_without_attention_have_none(stages: tuple[int, ...] | None, blocks: int) -> None:
    """SE in some stages alone (section 6.4): there, and nowhere else."""
    with torch.device("meta"):
        model = senet.build("resnet20", attention=Attention("se", stages=stages))
    found = [k for k, m in model.named_modules() if isinstance(m, SqueezeExcitation)]
    assert len(found) == blocks
    assert {int(key.split(".")[0][-1]) for key in found} == set(stages or (1, 2, 3))


def test_dropout_is_between_the_convolutions_and_in_training_alone() -> None:
    """WRN's dropout changes training, not the eval mode, and not the weights."""
    torch.manual_seed(0)
    block = PreActBlock(4, 4, 1, dropout=0.5)
    x = torch.randn(8, 4, 6, 6)
    assert torch.equal(block.eval()(x), block(x))
    dropped: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, args: dropped.append(args[0]))
    block.train()(x)
    share = (dropped[0] == 0).float().mean().item()
    assert 0.65 < share < 0.85  # half by the ReLU, half of the rest by dropout
    plain = senet.build("wrn16_8").state_dict()
    assert plain.keys() == senet.build("wrn16_8", dropout=0.3).state_dict().keys()


TINY = {
    "cifar A": lambda: CifarResNet(BasicBlock, (1, 1, 1), num_classes=5),
    "cifar B": lambda: CifarResNet(BasicBlock, (1, 1, 1), num_classes=5, shortcut="B"),
    "bottleneck": lambda: CifarResNet(Bottleneck, (1, 1, 1), num_classes=5),
    "preact": lambda: PreActResNet(PreActBlock, (1, 1, 1), num_classes=5),
    "preact bottleneck": lambda: PreActResNet(PreActBottleneck, (1, 1, 1), num_classes=5),
    "wide": lambda: PreActResNet(PreActBlock, (1, 1, 1), width=2, dropout=0.1, num_classes=5),
}


@pytest.mark.parametrize("make", TINY.values(), ids=TINY.keys())
def test_it_learns_at_the_learning_rate_of_the_recipe(make: object) -> None:
    """SGD at 0.1 brings the loss on one small batch below a third of the first in 20 steps."""
    torch.manual_seed(0)
    model = make().train()  # type: ignore[operator]
    x = torch.randn(10, 3, 16, 16)
    labels = torch.arange(10) % 5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3, losses


@pytest.mark.parametrize("kind", ["none", "se", "eca", "cbam", "ge_theta_plus", "simam"])
@pytest.mark.parametrize("make", [CifarResNet, PreActResNet])
def test_no_graph_breaks(make: type[nn.Module], kind: str) -> None:
    """The whole forward is one graph for torch.compile; a break would raise."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    block = BasicBlock if make is CifarResNet else PreActBlock
    model = make(block, (1, 1, 1), attention=Attention(kind), image_size=8).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        found = torch.compile(model, backend="eager", fullgraph=True)(x)
        assert torch.equal(found, model(x))


def test_initialisation_is_he_s() -> None:
    """Convolutions have the fan-out spread, BatchNorms are identities."""
    torch.manual_seed(0)
    for name in ("resnet56", "wrn16_8"):
        for module in senet.build(name).modules():
            if isinstance(module, nn.BatchNorm2d):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
