"""Models are built by name; what cannot be built is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import torch
from torch import nn
from torchvision.models import resnet as torchvision_resnet

import senet
from senet import Architecture, Attention, ModelError
from senet.catalogue import Network

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
        (
            {"reduction": 257},
            "reduction 257 exceeds the 256 channels of a block; there it can be 1 to 256",
        ),
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


CIFAR_NAMES = [
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet164",
    "preact_resnet110",
    "preact_resnet164",
    "wrn16_4",
    "wrn16_8",
    "wrn28_10",
]
KINDS = ("se", "eca", "cbam", "ge_theta_minus", "ge_theta", "ge_theta_plus", "simam")


def test_names_are_networks_with_a_kind_before_them() -> None:
    """Sixteen networks, each plain and with seven kinds of attention."""
    plain = [name for name in NAMES if not name.startswith("se_")]
    assert list(senet.NETWORKS) == plain + CIFAR_NAMES
    assert set(senet.names()) == {
        f"{before}{base}"
        for base in plain + CIFAR_NAMES
        for before in ("", *(f"{kind}_" for kind in KINDS))
    }


@pytest.mark.parametrize("base", ["resnet18", "resnet20", "resnet164", "preact_resnet164"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_in_every_network(base: str, kind: str) -> None:
    """By name and with the argument the same model is built, and it says what it is."""
    with torch.device("meta"):
        by_name = senet.build(f"{kind}_{base}", num_classes=7, image_size=32)
        by_argument = senet.build(base, num_classes=7, attention=kind, image_size=32)
        assert by_name(torch.empty(2, 3, 32, 32)).shape == (2, 7)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (by_name, by_argument)]
    assert shapes[0] == shapes[1]
    found = senet.describe(by_argument)
    assert found == senet.describe(by_name)
    assert found is not None
    assert (found.name, found.attention) == (f"{kind}_{base}", Attention(kind))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("resnet50", ("resnet50", "none", "resnet", 50, 1)),
        ("se_resnet56", ("resnet56", "se", "cifar_resnet", 56, 1)),
        ("ge_theta_plus_preact_resnet164", ("preact_resnet164", "ge_theta_plus",
                                            "preact_resnet", 164, 1)),
        ("ge_theta_wrn28_10", ("wrn28_10", "ge_theta", "wrn", 28, 10)),
    ],
)  # fmt: skip
def test_facts_of_a_name(name: str, facts: tuple[object, ...]) -> None:
    """A name tells network, kind of attention, family, depth and width."""
    found = senet.facts(name)
    assert (found.base, found.attention, found.family, found.depth, found.width) == facts
    assert senet.attention_of(name) == facts[1]
    assert senet.is_se(name) == (facts[1] == "se")


@pytest.mark.parametrize("name", CIFAR_NAMES)
def test_networks_for_cifar_have_their_own_stem_alone(name: str) -> None:
    """It is the default, and the other is refused with the option to give."""
    assert senet.stems_of(name) == ("cifar",)
    assert senet.resolve(name).stem == "cifar"
    with pytest.raises(ModelError) as caught:
        senet.build(name, stem="imagenet")
    assert str(caught.value) == (
        f"{name} is made for small images: its stem is a 3×3 of 16 channels, and it has no "
        "imagenet stem; build it with --stem cifar"
    )


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "se_resnet50",
            {"attention": "eca"},
            "se_resnet50 has attention se, not eca; eca_resnet50 has that",
        ),
        (
            "se_resnet50",
            {"attention": "none"},
            "se_resnet50 has attention se, not none; resnet50 has that",
        ),
        (
            "se_resnet50",
            {"attention": Attention("se"), "reduction": 8},
            "reduction is given beside an attention, which has its own",
        ),
        (
            "eca_resnet50",
            {"reduction": 8},
            "reduction does not apply to attention eca, whose options are: position, stages; "
            "it applies to: se, cbam, ge_theta_plus",
        ),
        (
            "resnet20",
            {"attention": Attention("se", position="conv3x3")},
            "position conv3x3 does not apply to resnet20, whose blocks are no bottlenecks; it "
            "applies to: resnet50, resnet101, resnet152, resnet164, preact_resnet164",
        ),
        (
            "resnet20",
            {"attention": Attention("se", stages=(1, 4))},
            "resnet20 has the stages 1 to 3, and no stage 4",
        ),
        (
            "se_resnet20",
            {"reduction": 17},
            "reduction 17 exceeds the 16 channels of a block; there it can be 1 to 16",
        ),
        ("resnet20", {"attention": "sse"}, "unknown attention 'sse'; choose from: none, se, eca"),
        ("resnet20", {"shortcut": "C"}, "unknown shortcut 'C'; choose from: A, B"),
        (
            "resnet164",
            {"shortcut": "A"},
            "resnet164 has no shortcut A; models that can: resnet20, resnet32, resnet44, "
            "resnet56, resnet110",
        ),
        (
            "resnet20",
            {"dropout": 0.3},
            "resnet20 has no dropout; models that have: wrn16_4, wrn16_8, wrn28_10",
        ),
        ("wrn16_8", {"dropout": 1}, "dropout must be a number from 0 to below 1, not 1"),
        ("wrn16_8", {"dropout": "0.3"}, "dropout must be a number from 0 to below 1, not '0.3'"),
        ("ge_theta_resnet20", {"image_size": 0}, "image_size must be an integer of at least 1"),
        ("se_resnet51", {}, "unknown model 'se_resnet51'; choose from: resnet18"),
        ("se_eca_resnet50", {}, "unknown model 'se_eca_resnet50'; choose from: resnet18"),
        ("none_resnet50", {}, "unknown model 'none_resnet50'; choose from: resnet18"),
    ],
)
def test_what_a_network_cannot_have_is_refused(
    name: str, options: dict[str, object], says: str
) -> None:
    """One line names the thing, and what does apply."""
    with pytest.raises(ModelError) as caught, torch.device("meta"):
        senet.build(name, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_options_one_by_one_are_those_of_the_attention() -> None:
    """`reduction`, `se_bias` and `se_divisor` mean the fields of an `Attention`."""
    one_by_one = senet.resolve("se_resnet18", reduction=8, se_bias=False, se_divisor=8)
    whole = Attention("se", reduction=8, bias=False, divisor=8)
    assert one_by_one == senet.resolve("resnet18", attention=whole)
    assert (one_by_one.reduction, one_by_one.se_bias, one_by_one.se_divisor) == (8, False, 8)
    assert senet.resolve("eca_resnet18").reduction is None


def test_the_size_of_images_is_kept_where_weights_depend_on_it() -> None:
    """GE's gather over everything is learnt for a size; all else fits any."""
    assert senet.resolve("ge_theta_resnet50").image_size == 224
    assert senet.resolve("ge_theta_resnet50", image_size=32).image_size == 32
    assert senet.resolve("ge_theta_plus_resnet56").image_size == 32
    assert senet.resolve("ge_theta_minus_resnet50", image_size=32).image_size is None
    assert senet.resolve("se_resnet50", image_size=32).image_size is None
    extent = Attention("ge_theta", extent=4)
    assert senet.resolve("resnet50", attention=extent, image_size=32).image_size is None


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("side", [32, 33, 40])
def test_sides_are_what_the_stages_leave(stem: str, side: int) -> None:
    """A gather over everything is as large as the images are there, odd sizes included."""
    with torch.device("meta"):
        model = senet.build("ge_theta_resnet50", stem=stem, image_size=side)
        assert model(torch.empty(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        (("se_resnet50", {"attention": Attention("se", reduction=8, divisor=8, position="pre")}),
         "se_resnet50 (imagenet stem, 10 classes, reduction 8, SE with bias, hidden width in 8s, "
         "position pre)"),
        (("resnet20", {}), "resnet20 (cifar stem, 10 classes, shortcut A)"),
        (("wrn28_10", {"dropout": 0.3}), "wrn28_10 (cifar stem, 10 classes, dropout 0.3)"),
        (("ge_theta_resnet20", {}),
         "ge_theta_resnet20 (cifar stem, 10 classes, shortcut A, image size 32)"),
    ],
)  # fmt: skip
def test_architectures_in_words(arch: tuple[str, dict[str, object]], text: str) -> None:
    """What was chosen is told, and what is the default of an SE block as before."""
    name, options = arch
    assert str(senet.resolve(name, **options)) == text


@pytest.mark.parametrize(
    "arch",
    [
        senet.resolve("resnet50"),
        senet.resolve("se_resnet50", reduction=8),
        senet.resolve("cbam_resnet50", "cifar", 100),
        senet.resolve("resnet20", shortcut="B"),
        senet.resolve("wrn28_10", dropout=0.3),
        senet.resolve("ge_theta_plus_resnet56", image_size=64),
        senet.resolve("resnet50", attention=Attention("se", squeeze="max", stages=(2, 3))),
    ],
    ids=str,
)
def test_architectures_survive_json(arch: Architecture) -> None:
    """What a file notes is what was built."""
    assert Architecture.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch


def test_files_of_before_are_understood_and_still_written_alike() -> None:
    """An SE model is noted in the six facts that files had when SE was all there was."""
    old = {
        "name": "se_resnet18",
        "stem": "cifar",
        "num_classes": 10,
        "reduction": 16,
        "se_bias": True,
        "se_divisor": 1,
    }
    arch = senet.resolve("se_resnet18", "cifar")
    assert arch.to_dict() == old
    assert Architecture.from_dict(old) == arch
    plain = old | {"name": "resnet18", "reduction": None, "se_bias": None, "se_divisor": None}
    assert Architecture.from_dict(plain) == senet.resolve("resnet18", "cifar")


# Computed by the version of the package in which SE was all there was.
@pytest.mark.parametrize(
    ("name", "stem", "digest"),
    [
        ("se_resnet18", "cifar", "22a0bc45b029d07b"),
        ("se_resnet18", "imagenet", "8ffa914edfe01d19"),
        ("se_resnet34", "cifar", "51d1387f2fdf1246"),
        ("se_resnet34", "imagenet", "1502b1591d057630"),
        ("se_resnet50", "cifar", "b3dd3664e14e4c1e"),
        ("se_resnet50", "imagenet", "aae37654d5b32265"),
        ("se_resnet101", "cifar", "dd63e73d62ab5084"),
        ("se_resnet101", "imagenet", "44271d3173970b96"),
        ("se_resnet152", "cifar", "52e54bc47a85b5e4"),
        ("se_resnet152", "imagenet", "7e3221cdd8ea3354"),
    ],
)
def test_se_models_keep_their_state(name: str, stem: str, digest: str) -> None:
    """Names, order and shapes are those that weights files have had from the start."""
    with torch.device("meta"):
        state = senet.build(name, stem=stem).state_dict()
    told = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == digest


def test_se_models_are_drawn_as_they_always_were() -> None:
    """A seed gives the weights that it gave when SE was all there was."""
    torch.manual_seed(0)
    model = senet.build("se_resnet18", stem="cifar")
    total = sum(float(value.double().abs().sum()) for value in model.state_dict().values())
    assert total == pytest.approx(235036.15034933607, rel=1e-9)


def test_models_can_be_pickled() -> None:
    """A model survives the way to another process, with its description."""
    model = senet.build("se_resnet18", stem="cifar")
    other = pickle.loads(pickle.dumps(model))
    assert senet.describe(other) == senet.describe(model)
    assert torch.equal(other.fc.weight, model.get_parameter("fc.weight"))


def test_a_network_more_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of data gives the network, plain and with attention, and what its name says."""
    line = Network("resnet", 26, "bottleneck", (2, 2, 2, 2))
    monkeypatch.setitem(senet.NETWORKS, "resnet26", line)
    with torch.device("meta"):
        for name in ("resnet26", "eca_resnet26"):
            assert senet.build(name, num_classes=3)(torch.empty(2, 3, 64, 64)).shape == (2, 3)
    assert senet.facts("se_resnet26").depth == 26


def test_a_model_from_elsewhere_takes_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function in MODELS is built by its name, and refuses what it has not."""

    def linear(*, stem: str, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3, num_classes))

    monkeypatch.setitem(senet.MODELS, "linear", linear)
    assert senet.describe(senet.build("linear")) == Architecture("linear", "imagenet", 10)
    assert not senet.is_se("linear")
    for option in ({"attention": "se"}, {"reduction": 8}, {"dropout": 0.1}, {"shortcut": "A"}):
        with pytest.raises(ModelError, match=f"so {next(iter(option))} does not apply"):
            senet.build("linear", **option)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="unknown stem 'x'; choose from: cifar, imagenet"):
        senet.build("linear", stem="x")
