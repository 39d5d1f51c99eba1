"""Models are built by name; what cannot be built is refused in one line."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn
from torchvision.models import resnet as torchvision_resnet

import senet
from senet import Architecture, Attention, ModelError

NAMES = [f"{kind}resnet{depth}" for kind in ("se_", "") for depth in (18, 34, 50, 101, 152)]


def test_models_are_the_five_depths_with_and_without_se() -> None:
    """The zoo holds five SE-ResNets and five ResNets."""
    assert list(senet.MODELS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_every_model_takes_any_stem_and_number_of_classes(name: str, stem: str) -> None:
    """(2, 3, 32, 32) becomes (2, 7) logits."""
    with torch.device("meta"):
        model = senet.build(name, stem=stem, num_classes=7)
        assert model(torch.empty(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("depth", [18, 50])
def test_plain_models_are_torchvision_s(depth: int) -> None:
    """The classical models are torchvision's class, drawn with the same numbers."""
    torch.manual_seed(3)
    ours = senet.build(f"resnet{depth}", num_classes=10)
    torch.manual_seed(3)
    theirs = getattr(torchvision_resnet, f"resnet{depth}")(weights=None, num_classes=10)
    assert type(ours) is torchvision_resnet.ResNet
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


def test_cifar_stem_of_a_plain_model() -> None:
    """It is a 3×3 of stride 1 with He's spread, and there is no pooling."""
    torch.manual_seed(0)
    model = senet.build("resnet18", stem="cifar")
    conv = model.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert conv.bias is None
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert not any(isinstance(m, nn.MaxPool2d) for m in model.modules())


def test_the_same_generator_state_gives_the_same_weights() -> None:
    """Nothing but torch's default generator decides on the weights."""
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(senet.build("se_resnet18", stem="cifar").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    """The message names the name and lists the networks, and what can stand before their names."""
    with pytest.raises(ModelError) as caught:
        senet.build("resnet51")
    assert str(caught.value) == (
        f"unknown model 'resnet51'; choose from: {', '.join(senet.NETWORKS)}; each can have before "
        "its name: se_, eca_, cbam_, ge_theta_minus_, ge_theta_, ge_theta_plus_, simam_"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "mnist"}, "unknown stem 'mnist'; choose from: cifar, imagenet"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0"),
        ({"num_classes": 2.5}, "num_classes must be an integer of at least 1, not 2.5"),
        ({"num_classes": True}, "num_classes must be an integer of at least 1, not True"),
        ({"reduction": 0}, "reduction must be an integer of at least 1, not 0"),
        ({"reduction": 257}, "reduction 257 exceeds the 256 channels of a block"),
        ({"se_bias": "no"}, "se_bias must be True or False, not 'no'"),
        ({"se_divisor": 0}, "se_divisor must be an integer of at least 1, not 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    """One line says which option is wrong and what would be right."""
    with pytest.raises(ModelError) as caught, torch.device("meta"):
        senet.build("se_resnet50", **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize("option", [{"reduction": 16}, {"se_bias": False}, {"se_divisor": 8}])
def test_se_options_are_refused_for_models_without_se(option: dict[str, object]) -> None:
    """The message names the model, the option and the models that take it."""
    with pytest.raises(ModelError) as caught:
        senet.build("resnet50", **option)  # type: ignore[arg-type]
    assert f"resnet50 has no SE block, so {next(iter(option))} does not apply" in str(caught.value)
    assert "se_resnet50" in str(caught.value)


def test_is_se() -> None:
    """It tells the two kinds apart and refuses a name that is neither."""
    assert [name for name in NAMES if senet.is_se(name)] == NAMES[:5]
    with pytest.raises(ModelError, match="unknown model 'vgg'"):
        senet.is_se("vgg")


def test_a_model_says_what_it_is() -> None:
    """`describe` returns the options with their defaults, and nothing for a stranger."""
    with torch.device("meta"):
        se = senet.build("se_resnet18", stem="cifar")
        plain = senet.build("resnet18")
    assert senet.describe(se) == Architecture("se_resnet18", "cifar", 10, Attention("se"))
    assert senet.describe(plain) == Architecture("resnet18", "imagenet", 10)
    assert senet.describe(nn.Linear(1, 1)) is None
    assert str(senet.describe(plain)) == "resnet18 (imagenet stem, 10 classes)"


def test_models_can_be_pickled() -> None:
    """A model survives the way to another process, with its description."""
    model = senet.build("se_resnet18", stem="cifar")
    other = pickle.loads(pickle.dumps(model))
    assert senet.describe(other) == senet.describe(model)
    assert torch.equal(other.fc.weight, model.get_parameter("fc.weight"))
