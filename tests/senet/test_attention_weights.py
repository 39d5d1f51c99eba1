"""Weights of networks with any attention load from timm and others, or say what they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import senet
from senet import Attention, ModelError
from senet.layouts import canonical, canonical_value
from senet.weight_files import digest


def randomised(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights of its own, so that no mix-up goes unseen."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double().eval()


def timm_model(depth: int, kind: str) -> nn.Module:
    block_args = {} if kind == "none" else {"attn_layer": kind}
    model: nn.Module = timm.create_model(f"resnet{depth}", num_classes=10, block_args=block_args)
    return model


def ours_for(depth: int, kind: str) -> nn.Module:
    """Return the model of the zoo that timm's is: its SE rounds widths, its CBAM has no bias."""
    attention = {
        "none": Attention(),
        "se": Attention("se", divisor=8),
        "eca": Attention("eca"),
        "cbam": Attention("cbam", bias=False),
    }[kind]
    return senet.build(f"resnet{depth}", attention=attention)


@pytest.mark.parametrize("kind", ["none", "se", "eca", "cbam"])
@pytest.mark.parametrize("depth", [18, 50])
def test_logits_equal_timm_s_in_double_precision(depth: int, kind: str, tmp_path: Path) -> None:
    """From timm's file come timm's logits, to ten digits."""
    theirs = randomised(timm_model(depth, kind))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = ours_for(depth, kind).double().eval()
    layout = senet.load_weights(ours, tmp_path / "w.pth")
    assert layout == ("torchvision" if kind == "none" else "timm")
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.std() > 0.01  # the comparison says something
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["none", "se", "eca", "cbam"])
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_of_timm_has_our_names_and_shapes(depth: int, kind: str) -> None:
    """All five depths have a layout that both know, with nothing missing and nothing left."""
    with torch.device("meta"):
        theirs, ours = timm_model(depth, kind).state_dict(), ours_for(depth, kind).state_dict()
    found = {canonical(key): canonical_value(key, value).shape for key, value in theirs.items()}
    assert found == {canonical(key): value.shape for key, value in ours.items()}


class OptionA(nn.Module):
    """The shortcut without weights of akamaster/pytorch_resnet_cifar10, written with sums."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.c_out = c_out

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), self.c_out, x.shape[2] // 2, x.shape[3] // 2)
        first = self.c_out // 4
        out[:, first : first + x.shape[1]] += x[:, :, ::2, ::2]
        return out


class ThinBlock(nn.Module):
    """The basic block with the attribute names of both repositories."""

    def __init__(self, c_in: int, c_out: int, option: str) -> None:
        super().__init__()
        stride = 1 if c_in == c_out else 2
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module = nn.Sequential()
        if stride == 2 and option == "A":
            self.downsample = OptionA(c_out)
        elif stride == 2:
            projection = nn.Conv2d(c_in, c_out, 1, 2, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.downsample(x))


class ThinResNet(nn.Module):
    """ResNet-20 as akamaster has it (option A, ``linear``) or chenyaofo (option B, ``fc``)."""

    def __init__(self, option: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        c_in = 16
        for number, c_out in enumerate((16, 32, 64), start=1):
            blocks = [ThinBlock(c_in, c_out, option)]
            blocks += [ThinBlock(c_out, c_out, option) for _ in range(2)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            c_in = c_out
        self.last = "linear" if option == "A" else "fc"
        self.add_module(self.last, nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.get_submodule(self.last)(F.avg_pool2d(x, x.shape[3]).flatten(1))
        return logits


@pytest.mark.parametrize("option", ["A", "B"])
def test_thin_networks_of_the_repositories_load(option: str, tmp_path: Path) -> None:
    """The two layouts in which ResNet-20's weights are published give their networks' logits."""
    theirs = randomised(ThinResNet(option))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.th.pt")
    ours = senet.build("resnet20", shortcut=option).double().eval()
    assert senet.load_weights(ours, tmp_path / "w.th.pt") == "torchvision"
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("option", ["A", "B"])
def test_thin_networks_learn_as_those_of_the_repositories(option: str, tmp_path: Path) -> None:
    """From the same weights and images, SGD with momentum goes through the same losses."""
    theirs = randomised(ThinResNet(option))
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    ours = senet.build("resnet20", shortcut=option).double()
    senet.load_weights(ours, tmp_path / "w.pt")
    images, labels = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    losses: list[list[float]] = []
    for model in (ours.train(), theirs.train()):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        losses.append([])
        for _ in range(5):
            loss = F.cross_entropy(model(images), labels)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)
    assert losses[0][-1] < losses[0][0] / 2


@pytest.mark.parametrize(
    ("file", "model", "says"),
    [
        ("eca", "se", "the file is of a model with attention eca, the model has se"),
        ("se", "cbam", "the file is of a model with attention se, the model has cbam"),
        ("cbam", "none", "the file is of a model with attention cbam, the model has none"),
        ("ge_theta", "ge_theta_plus", "with attention ge_theta, the model has ge_theta_plus"),
        ("none", "se", "the file is of a model without SE blocks"),
    ],
)
def test_another_kind_of_attention_is_named(
    file: str, model: str, says: str, tmp_path: Path
) -> None:
    """A file of one kind does not fit a model of another, and the error says which is which."""
    torch.save(senet.build("resnet20", attention=file).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build("resnet20", attention=model), tmp_path / "w.pt")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_timm_s_cbam_has_no_bias(tmp_path: Path) -> None:
    """Its file does not fit our default, which is the paper's, and the option to build is named."""
    torch.save(timm_model(18, "cbam").state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build("cbam_resnet18"), tmp_path / "w.pt")
    assert "the file's CBAM has no bias: attention cbam with bias=False; " in str(caught.value)


def test_another_depth_of_three_stages_is_named(tmp_path: Path) -> None:
    """The networks for CIFAR have three stages, and their blocks are counted too."""
    torch.save(senet.build("resnet32").state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build("resnet20"), tmp_path / "w.pt")
    assert "(5, 5, 5) blocks in its stages, the model (3, 3, 3)" in str(caught.value)
    assert "--stem" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {"attention": Attention("se", squeeze="max", stages=(2, 3))}),
        ("ge_theta_plus_resnet20", {"image_size": 16}),
        ("cbam_preact_resnet110", {}),
        ("simam_resnet20", {"shortcut": "B"}),
    ],
)
def test_a_saved_file_knows_its_architecture(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Attention and its options, shortcut and size of images are noted and read again."""
    model = senet.build(name, **options)
    senet.save_weights(model, tmp_path / "w.safetensors")
    noted = senet.read_architecture(tmp_path / "w.safetensors")
    assert noted == senet.describe(model)
    other = senet.build(name, **options)
    assert senet.load_weights(other, tmp_path / "w.safetensors") == "own"
    state = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_files_of_before_load_and_are_written_alike(tmp_path: Path) -> None:
    """A file with the six facts of old is read, and saving its model again gives its bytes."""
    model = senet.build("se_resnet18", stem="cifar", num_classes=3)
    facts = {
        "name": "se_resnet18",
        "stem": "cifar",
        "num_classes": 3,
        "reduction": 16,
        "se_bias": True,
        "se_divisor": 1,
    }
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    noted = {"architecture": facts, "sha256": digest(state)}
    metadata = {"senet": json.dumps(noted, sort_keys=True)}
    safetensors.torch.save_file(state, tmp_path / "old.safetensors", metadata)
    assert senet.read_architecture(tmp_path / "old.safetensors") == senet.describe(model)
    senet.load_weights(model, tmp_path / "old.safetensors")
    senet.save_weights(model, tmp_path / "new.safetensors")
    old, new = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("old", "new"))
    assert old == new


@pytest.mark.parametrize(
    "attention", [3, "se", None, [], {"kind": []}, {"kind": "se", "gain": 1}, {"kind": "later"}]
)
def test_facts_of_another_version_are_not_half_understood(
    attention: object, tmp_path: Path
) -> None:
    """A file whose attention this version does not know says nothing about its model, and loads."""
    model = senet.build("resnet20")
    facts = {"name": "x", "stem": "cifar", "num_classes": 10, "attention": attention}
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    noted = {"architecture": facts, "sha256": digest(state)}
    metadata = {"senet": json.dumps(noted)}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors", metadata)
    assert senet.read_architecture(tmp_path / "w.safetensors") is None
    assert senet.load_weights(model, tmp_path / "w.safetensors") == "own"
