"""The counts are exact, three counters agree on them, and the model never notices."""

from __future__ import annotations

import copy
import logging
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import senet
from bench.errors import UserError
from bench.measure.count import cost
from bench.measure.count.agreement import CountersDisagreeError
from bench.measure.count.cost import count
from bench.record.cost import CostFacts


def build(name: str, stem: str, num_classes: int, se_bias: bool | None = None) -> nn.Module:
    with torch.device("meta"):
        return senet.build(name, stem=stem, num_classes=num_classes, se_bias=se_bias)


@pytest.mark.parametrize(
    ("name", "stem", "num_classes", "se_bias", "image_size", "params", "macs"),
    [
        ("resnet50", "imagenet", 1000, None, 224, 25_557_032, 4_089_184_256),
        ("se_resnet50", "imagenet", 1000, False, 224, 28_071_976, 4_091_699_200),
        ("se_resnet50", "imagenet", 1000, True, 224, 28_088_024, 4_091_699_200),
        ("resnet101", "imagenet", 1000, None, 224, 44_549_160, 7_801_405_440),
        ("resnet50", "imagenet", 10, None, 32, 23_528_522, 83_431_424),
        ("se_resnet50", "imagenet", 10, True, 32, 26_059_514, 85_946_368),
        ("resnet101", "imagenet", 10, None, 32, 42_520_650, 159_191_040),
        ("resnet50", "cifar", 10, None, 32, 23_520_842, 1_297_829_888),
        ("se_resnet50", "cifar", 10, False, 32, 26_035_786, 1_300_344_832),
        ("se_resnet50", "cifar", 10, True, 32, 26_051_834, 1_300_344_832),
        ("resnet101", "cifar", 10, None, 32, 42_512_970, 2_509_983_744),
    ],
)
def test_published_counts(
    name: str,
    stem: str,
    num_classes: int,
    se_bias: bool | None,
    image_size: int,
    params: int,
    macs: int,
) -> None:
    """Parameters, MACs and FLOPs of the comparison's models are the published integers."""
    model = build(name, stem, num_classes, se_bias)
    facts = count(model, image_size)
    assert (facts.params, facts.macs, facts.flops) == (params, macs, 2 * macs)
    assert cost.traced_macs(model, image_size) == macs


class Small(nn.Module):
    """A network whose cost can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu_()
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def test_hand_counted_network() -> None:
    """On 8 × 8: every figure of a convolution, BatchNorm, ReLU, mean and linear layer.

    The convolution writes 4·64 = 256 elements of 27 MACs each; the linear layer 5 of 4 each.
    """
    facts = count(Small(), 8)
    assert facts.params == 108 + 8 + 25
    assert facts.macs == 256 * 27 + 20
    assert facts.flops == 2 * (256 * 27 + 20)
    assert facts.uncounted == {"batch_norm": 1, "mean": 1, "relu": 1}
    assert facts.operators == 5
    assert facts.activations == 256 + 5
    assert facts.param_bytes == 4 * 141
    # convolution, BatchNorm with its statistics, linear
    assert facts.weight_bytes == 4 * (108 + 16 + 25)
    # read and written: convolution, BatchNorm, ReLU, mean, linear
    floats = (192 + 256) + (256 + 256) + (256 + 256) + (256 + 4) + (4 + 5)
    assert facts.activation_bytes == 4 * floats
    assert facts.bytes_moved() == 4 * (149 + floats)
    assert facts.bytes_moved(64) == 4 * (149 + 64 * floats)
    places = [(part.stage, part.kind, part.operators, part.params) for part in facts.parts]
    assert places == [
        ("stem", "conv", 1, 108),
        ("stem", "norm", 1, 8),
        ("stem", "activation", 1, 0),
        ("stem", "pooling", 1, 0),
        ("head", "linear", 1, 25),
    ]


@pytest.mark.parametrize(("name", "stem"), [("se_resnet18", "cifar"), ("resnet50", "imagenet")])
def test_parts_add_up(name: str, stem: str) -> None:
    """The breakdown by stage and kind sums to every total, with each place once."""
    facts = count(build(name, stem, 10), 32)
    for field in ("operators", "params", "macs", "activations", "weight_bytes", "activation_bytes"):
        assert sum(getattr(part, field) for part in facts.parts) == getattr(facts, field), field
    places = [(part.stage, part.kind) for part in facts.parts]
    assert len(set(places)) == len(places)
    stages = list(dict.fromkeys(stage for stage, _ in places))
    assert stages == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert all(part.kind != "other" for part in facts.parts)


def test_what_se_adds_and_where() -> None:
    """SE-ResNet-50 on the CIFAR stem: 16 blocks of 6 operators, and the plain network as it was.

    A block of C channels on H × W positions reads C·H·W to squeeze, and reads and writes as much
    to scale; its FC layers are 2·C·(C/16) MACs.
    """
    se, plain = (count(build(name, "cifar", 10), 32) for name in ("se_resnet50", "resnet50"))
    own = [part for part in se.parts if part.kind.startswith("se_")]
    launches = {kind: sum(p.operators for p in own if p.kind == kind) for kind in KINDS}
    assert launches == {
        "se_squeeze": 16,
        "se_fc": 32,
        "se_relu": 16,
        "se_gate": 16,
        "se_scale": 16,
    }
    assert se.operators - plain.operators == 96
    assert sum(part.macs for part in own) == se.macs - plain.macs == 2_514_944
    assert sum(part.params for part in own) == se.params - plain.params == 2_530_992
    stage1 = {part.kind: part for part in own if part.stage == "stage1"}
    assert stage1["se_fc"].macs == 3 * 2 * 256 * 16
    assert stage1["se_squeeze"].activation_bytes == 3 * 4 * (256 * 1024 + 256)
    assert stage1["se_scale"].activation_bytes == 3 * 4 * (2 * 256 * 1024 + 256)
    others = {(p.stage, p.kind): p for p in se.parts if not p.kind.startswith("se_")}
    for part in plain.parts:
        if part.kind != "pooling":  # torchvision pools with a module, to the same numbers
            assert others[part.stage, part.kind] == part


KINDS = ("se_squeeze", "se_fc", "se_relu", "se_gate", "se_scale")


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_se_costs_a_fifth_of_the_memory_traffic(stem: str) -> None:
    """Next to nothing in MACs, about 20 % in bytes: the reason why MACs do not answer."""
    se, plain = (count(build(name, stem, 10), 64) for name in ("se_resnet50", "resnet50"))
    assert 1.0 < se.macs / plain.macs < 1.02
    assert 1.18 < se.activation_bytes / plain.activation_bytes < 1.27


def test_activations_are_those_of_fvcore() -> None:
    """fvcore's activation counter finds the same elements written by convolutions and linears."""
    model = build("se_resnet18", "imagenet", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import ActivationCountAnalysis

        twin = cost.blank_copy(model, "cpu")
        analysis = ActivationCountAnalysis(twin, torch.zeros(1, 3, 64, 64))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        expected = int(analysis.total())
    assert count(model, 64).activations == expected


@settings(max_examples=15, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    transposed=st.booleans(),
    image_size=st.integers(9, 16),
)
def test_any_convolution_is_counted_as_the_others_count_it(
    groups: int,
    kernel: int,
    stride: int,
    dilation: int,
    bias: bool,
    transposed: bool,
    image_size: int,
) -> None:
    """Groups, strides, dilation and transposition: three counters agree, or `count` would raise."""
    convolution = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = convolution(8, 12, kernel, stride, groups=groups, dilation=dilation, bias=bias)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer)
    out = layer(torch.zeros(1, 8, image_size, image_size))
    positions = image_size**2 if transposed else out[0, 0].numel()
    expected = 24 * image_size**2 + positions * kernel**2 * 8 * 12 // groups
    assert count(model, image_size).macs == expected


def test_the_model_is_not_changed() -> None:
    """Values, gradients, flags, hooks, memory format and generators stay as they are."""
    torch.manual_seed(0)
    model = Small().to(memory_format=torch.channels_last).train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    calls: list[str] = []
    handle = model.register_forward_hook(lambda *_: calls.append("forward"))
    state = copy.deepcopy(model.state_dict())
    gradient = model.fc.weight.grad.clone()
    modules = {name: module.training for name, module in model.named_modules()}
    generator = torch.get_rng_state()

    count(model, 8)

    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(model.fc.weight.grad, gradient)
    assert {name: module.training for name, module in model.named_modules()} == modules
    assert not model.conv1.weight.requires_grad
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.get_rng_state(), generator)
    assert calls == []
    assert list(model._forward_hooks) == [handle.id]
    assert not model.conv1._forward_hooks
    assert not model.conv1._forward_pre_hooks


def test_state_and_precision_of_the_model_do_not_matter() -> None:
    """Training mode, bf16, the meta device and torch.compile give the same facts."""
    expected = count(Small().eval(), 8)
    with torch.device("meta"):
        on_meta = Small()
    for model in (Small().train(), on_meta, torch.compile(Small())):
        assert count(model, 8) == expected
    half = count(Small().bfloat16(), 8)
    assert half.param_bytes == expected.param_bytes / 2
    assert half.model_copy(update={"param_bytes": expected.param_bytes}) == expected


def test_tied_weights_are_one_parameter_read_twice() -> None:
    """A layer used twice has its parameters once and its MACs twice."""
    layer = nn.Linear(6, 6, bias=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6, bias=False), layer, layer)
    facts = count(model, 2)
    assert (facts.params, facts.macs) == (72 + 36, 72 + 2 * 36)
    assert facts.weight_bytes == 4 * (72 + 2 * 36)


def test_nothing_to_count_is_an_error() -> None:
    """A model without convolutions and linear layers is refused, not counted as zero."""
    with pytest.raises(UserError, match="ReLU has no convolution and no linear layer to count"):
        count(nn.ReLU(), 8)


@pytest.mark.parametrize("image_size", [0, -1, 2.0, True, "32"])
def test_impossible_image_sizes_are_refused(image_size: object) -> None:
    """The message names the size."""
    with pytest.raises(UserError) as caught:
        count(Small(), image_size)  # type: ignore[arg-type]
    assert str(caught.value) == f"image size must be an integer of at least 1, not {image_size!r}"


def test_counters_that_differ_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that finds one more stops everything, and the difference is named."""
    monkeypatch.setattr(cost, "_analysed", lambda *_: ({"conv": 6933, "batch_norm": 512}, []))
    with pytest.raises(CountersDisagreeError) as caught:
        count(Small(), 8)
    assert str(caught.value) == (
        "multiply-accumulates of Small at 8×8 differ: this project 6,932 (+0), "
        "torch.utils.flop_counter 6,932 (+0), fvcore 6,933 (+1)"
    )


def test_counting_is_silent(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """fvcore's remarks and torch's deprecations reach neither the log nor the streams."""
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        count(build("se_resnet18", "cifar", 10), 32)
    assert capsys.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("fvcore")] == []


def test_records_of_before_can_be_read() -> None:
    """Facts without the later fields stand for themselves, and have no bytes."""
    facts = CostFacts(params=1, macs=2, flops=4, uncounted={})
    assert facts.bytes_moved(8) is None
