"""Operators are seen once each, where they stand and as what they are."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import senet
from bench.measure.count.operators import blank_copy, blank_image, kind_of, plain_name, trace


class Launched(TorchDispatchMode):
    """The names of everything that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(plain_name(func._schema.name))
        return func(*args, **(kwargs or {}))


def test_the_meta_device_launches_what_the_cpu_launches() -> None:
    """Counting without arithmetic sees the same operators, in the same order, as a real call."""
    model = senet.build("se_resnet18", stem="cifar").eval()
    with torch.no_grad(), Launched() as real:
        model(torch.zeros(1, 3, 32, 32))
    no_work = {"t", "unsqueeze", "slice", "empty", "zeros"}
    expected = [name for name in real.names if name not in no_work]
    assert [operator.name for operator in trace(model, 32).operators] == expected


def test_stages_and_kinds_do_not_depend_on_whose_code_it_is() -> None:
    """timm's and our SE-ResNet-50 have the same MACs and SE operators in the same stages."""
    ours = trace(senet.build("se_resnet50"), 32).operators
    theirs = trace(timm.create_model("seresnet50", num_classes=10), 32).operators
    for stage in ("stem", "stage1", "stage2", "stage3", "stage4", "head"):
        for kind in ("se_squeeze", "se_fc", "se_relu", "se_gate", "se_scale", "conv", "norm"):
            found = [
                sum(o.macs for o in operators if (o.stage, o.kind) == (stage, kind))
                for operators in (ours, theirs)
            ]
            launches = [
                sum((o.stage, o.kind) == (stage, kind) for o in operators)
                for operators in (ours, theirs)
            ]
            assert found[0] == found[1], (stage, kind)
            assert launches[0] == launches[1], (stage, kind)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("eca_resnet20", ["mean", "addmm"]),
        ("wrn16_8", ["batch_norm", "relu", "mean", "addmm"]),
        ("se_resnet18", ["mean", "addmm"]),
    ],
)
def test_the_head_begins_behind_the_last_stage(name: str, head: list[str]) -> None:
    """Networks of three stages have their last mean in the head as those of four have."""
    operators = trace(senet.build(name), 32).operators
    assert [operator.name for operator in operators if operator.stage == "head"] == head


def test_a_large_network_is_traced_without_arithmetic() -> None:
    """A terapixel image would never fit: nothing is computed and nothing is allocated."""
    operators = trace(senet.build("resnet18"), 2**20).operators
    assert sum(operator.macs for operator in operators) > 10**16


@pytest.mark.parametrize(
    ("schema_name", "name", "kind", "kind_in_se"),
    [
        ("aten::relu_", "relu", "activation", "se_relu"),
        ("aten::sigmoid", "sigmoid", "activation", "se_gate"),
        ("aten::hardsigmoid", "hardsigmoid", "activation", "se_gate"),
        ("aten::mul", "mul", "other", "se_scale"),
        ("aten::mean", "mean", "pooling", "se_squeeze"),
        ("aten::_adaptive_avg_pool2d", "adaptive_avg_pool2d", "pooling", "se_squeeze"),
        ("aten::max_pool2d_with_indices", "max_pool2d", "pooling", "se_squeeze"),
        ("aten::addmm", "addmm", "linear", "se_fc"),
        ("aten::convolution", "convolution", "conv", "se_fc"),
        ("aten::native_batch_norm", "batch_norm", "norm", "norm"),
        ("aten::_native_batch_norm_legit_no_training", "batch_norm", "norm", "norm"),
        ("aten::add_", "add", "add", "add"),
        ("aten::cumsum", "cumsum", "other", "other"),
    ],
)
def test_names_and_kinds(schema_name: str, name: str, kind: str, kind_in_se: str) -> None:
    """Backends and in-place variants have one name; kinds depend on the SE block around them."""
    assert plain_name(schema_name) == name
    assert kind_of(name) == kind
    assert kind_of(name, in_se=True) == kind_in_se


def test_copies_are_blank_and_apart() -> None:
    """A copy has the shapes, zeros for values, and shares nothing."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).double()
    twin = blank_copy(model, "cpu")
    assert not twin.training
    assert all(not value.any() for value in twin.state_dict().values())
    assert next(twin.parameters()).dtype == torch.float32
    assert next(model.parameters()).any()
    assert blank_image(5, "meta").shape == (1, 3, 5, 5)
