"""SE-ResNet is the network of the paper: sizes, shapes, order of operations, and it learns."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import senet
from senet.attention import Attention
from senet.layers import SqueezeExcitation
from senet.layouts import canonical
from senet.resnet import BasicBlock, Bottleneck, ResNet

SE, SE4 = Attention("se"), Attention("se", reduction=4)


def tiny(stem: str = "cifar") -> ResNet:
    torch.manual_seed(0)
    return ResNet(Bottleneck, (1, 1, 1, 1), stem=stem, num_classes=5, attention=SE)


@pytest.mark.parametrize(
    ("name", "stem", "num_classes", "se_bias", "params"),
    [
        ("resnet50", "imagenet", 1000, None, 25_557_032),
        ("se_resnet50", "imagenet", 1000, False, 28_071_976),
        ("se_resnet50", "imagenet", 1000, True, 28_088_024),
        ("resnet101", "imagenet", 1000, None, 44_549_160),
        ("resnet50", "imagenet", 10, None, 23_528_522),
        ("se_resnet50", "imagenet", 10, True, 26_059_514),
        ("resnet101", "imagenet", 10, None, 42_520_650),
        ("resnet50", "cifar", 10, None, 23_520_842),
        ("se_resnet50", "cifar", 10, False, 26_035_786),
        ("se_resnet50", "cifar", 10, True, 26_051_834),
        ("resnet101", "cifar", 10, None, 42_512_970),
    ],
)
def test_parameters_are_the_published_ones(
    name: str, stem: str, num_classes: int, se_bias: bool | None, params: int
) -> None:
    """Every model of the comparison has exactly the number of parameters it should."""
    with torch.device("meta"):
        model = senet.build(name, stem=stem, num_classes=num_classes, se_bias=se_bias)
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_an_se_model_is_the_plain_model_and_its_se_blocks(depth: int, stem: str) -> None:
    """Without its SE blocks an SE-ResNet has the parameters of torchvision's ResNet, and no more.

    With reduction r and bias, a block of C channels adds 2·C·(C/r) + C/r + C.
    """
    with torch.device("meta"):
        se = senet.build(f"se_resnet{depth}", stem=stem)
        plain = senet.build(f"resnet{depth}", stem=stem)
    blocks = [m for m in se.modules() if isinstance(m, SqueezeExcitation)]
    channels = [block.fc1.in_features for block in blocks]
    added = sum(2 * c * (c // 16) + c // 16 + c for c in channels)
    expected = sum(p.numel() for p in plain.parameters()) + added
    assert len(blocks) == {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}[depth]
    assert sum(p.numel() for p in se.parameters()) == expected


@pytest.mark.parametrize(
    ("stem", "sides"), [("cifar", (32, 32, 16, 8, 4)), ("imagenet", (8, 8, 4, 2, 1))]
)
def test_shape_trail(stem: str, sides: tuple[int, ...]) -> None:
    """At 32 × 32 the stem and the stages leave the shapes that the comments promise."""
    with torch.device("meta"):
        model = senet.build("se_resnet50", stem=stem)
        x = torch.empty(2, 3, 32, 32)
    trail = []
    for name, channels in zip(
        ("stem", "stage1", "stage2", "stage3", "stage4"), (64, 256, 512, 1024, 2048), strict=True
    ):
        x = model.get_submodule(name)(x)
        trail.append(x.shape[2])
        assert x.shape == (2, channels, x.shape[2], x.shape[2])
    assert tuple(trail) == sides


def test_basic_block_is_the_paper_s() -> None:
    """conv, bn, relu, conv, bn, SE, plus the projected shortcut, relu, in this order."""
    torch.manual_seed(0)
    block = BasicBlock(8, 16, 2, SE4).eval()
    x = torch.randn(2, 8, 6, 6)
    out = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    expected = F.relu(block.se(out) + block.shortcut(x))
    torch.testing.assert_close(block(x), expected)
    assert block.conv1.stride == (2, 2)


def test_bottleneck_is_the_paper_s_with_the_stride_on_the_3x3() -> None:
    """1×1, 3×3 with the stride, 1×1, then SE after the third bn and before the addition."""
    torch.manual_seed(0)
    block = Bottleneck(8, 4, 2, SE4).eval()
    x = torch.randn(2, 8, 6, 6)
    out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
    expected = F.relu(block.se(block.bn3(block.conv3(out))) + block.shortcut(x))
    torch.testing.assert_close(block(x), expected)
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_training_step_has_the_gradients_of_out_of_place_arithmetic() -> None:
    """The additions and ReLUs done in place change no gradient."""
    torch.manual_seed(0)
    block = Bottleneck(16, 4, 1, SE4).double()
    x = torch.randn(2, 16, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)
    names, values = zip(*block.named_parameters(), strict=True)

    def of_weights(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(of_weights, values, fast_mode=True)


def test_eval_is_deterministic_and_each_image_is_on_its_own() -> None:
    """Two calls agree to the bit, and an image's logits do not depend on its batch."""
    model = tiny().eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(logits, model(x))
        torch.testing.assert_close(model(x[1:2]), logits[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_channels_last_equals_contiguous(stem: str) -> None:
    """The memory format changes no logit by more than rounding."""
    model = tiny(stem).eval()
    x = torch.randn(2, 3, 32, 32)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = model(x)
        found = other(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_no_graph_breaks(block: type[BasicBlock] | type[Bottleneck]) -> None:
    """The whole forward is one graph for torch.compile; a break would raise."""
    torch._dynamo.reset()
    model = ResNet(block, (1, 1, 1, 1), stem="cifar", num_classes=5, attention=SE).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        found = torch.compile(model, backend="eager", fullgraph=True)(x)
        assert torch.equal(found, model(x))


def test_initialisation_is_that_of_the_plain_networks() -> None:
    """Convolutions have He's fan-out spread, BatchNorms are identities: the baseline's start."""
    torch.manual_seed(0)
    model = senet.build("se_resnet50")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_it_learns_at_the_learning_rate_of_the_recipe() -> None:
    """SGD at 0.1 brings the loss on one small batch below a third of the first in 12 steps."""
    torch.manual_seed(0)
    model = ResNet(BasicBlock, (1, 1, 1, 1), stem="imagenet", num_classes=5, attention=SE).train()
    x = torch.randn(10, 3, 32, 32)
    labels = torch.arange(10) % 5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3, losses


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_without_attention_it_has_torchvision_s_sizes(depth: int, stem: str) -> None:
    """Parameters and multiply-accumulates are those of the ResNet that the zoo compares with."""
    network = senet.facts(f"resnet{depth}").network
    block = {"basic": BasicBlock, "bottleneck": Bottleneck}[network.block]
    found = []
    for make in (
        lambda: ResNet(block, network.blocks, stem=stem, num_classes=10),
        lambda: senet.build(f"resnet{depth}", stem=stem),
    ):
        with torch.device("meta"), torch.no_grad():
            model = make().eval()
            with FlopCounterMode(display=False) as counter:
                model(torch.empty(1, 3, 32, 32))
        params = sum(p.numel() for p in model.parameters())
        found.append((params, counter.get_total_flops()))
    assert found[0] == found[1]


@pytest.mark.parametrize(("depth", "block"), [(18, BasicBlock), (50, Bottleneck)])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_without_attention_it_computes_what_torchvision_does(
    depth: int, block: type[BasicBlock] | type[Bottleneck], stem: str
) -> None:
    """With the same weights, logits, gradients and running statistics of a step are the same."""
    torch.manual_seed(0)
    theirs = senet.build(f"resnet{depth}", stem=stem).double().train()
    network = senet.facts(f"resnet{depth}").network
    ours = ResNet(block, network.blocks, stem=stem, num_classes=10).double().train()
    ours.load_state_dict({canonical(key): value for key, value in theirs.state_dict().items()})
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    labels = torch.arange(4)
    logits = [model(images) for model in (ours, theirs)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-10, atol=1e-10)
    for each in logits:
        F.cross_entropy(each, labels).backward()
    gradients = {canonical(key): p.grad for key, p in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[key], rtol=1e-9, atol=1e-12, msg=f"gradient of {key}"
        )
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[canonical(key)], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("attention", "name", "params"),
    [
        # Woo et al. (1807.06521), table 4: 28.09 M, and GE's (1810.12348) weights by its formula.
        ("cbam", "cbam_resnet50", 28_089_624),
        ("ge_theta", "ge_theta_resnet50", 31_106_600),
        ("ge_theta_minus", "ge_theta_minus_resnet50", 25_557_032),
        ("simam", "simam_resnet50", 25_557_032),
        ("eca", "eca_resnet50", 25_557_032 + 3 * 5 + 4 * 5 + 6 * 5 + 3 * 7),
    ],
)
def test_rivals_add_what_their_papers_say(attention: str, name: str, params: int) -> None:
    """ResNet-50 with 1,000 classes at 224 × 224, by name and with the argument."""
    with torch.device("meta"):
        models = [
            senet.build(name, num_classes=1000),
            senet.build("resnet50", num_classes=1000, attention=attention),
        ]
    assert [sum(p.numel() for p in model.parameters()) for model in models] == [params, params]
    assert senet.describe(models[0]) == senet.describe(models[1])


# Hu et al., table 10: millions of parameters of SE-ResNet-50 for each reduction.
@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"reduction": 2}, 45.7),
        ({"reduction": 4}, 35.7),
        ({"reduction": 8}, 30.7),
        ({"reduction": 16}, 28.1),
        ({"reduction": 32}, 26.9),
    ],
)
def test_reductions_have_the_sizes_of_the_paper(options: dict[str, int], millions: float) -> None:
    """SE-ResNet-50 with 1,000 classes."""
    with torch.device("meta"):
        model = senet.build("resnet50", num_classes=1000, attention=Attention("se", **options))
    params = sum(p.numel() for p in model.parameters())
    assert params / 1e6 == pytest.approx(millions, abs=0.1)
