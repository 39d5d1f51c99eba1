"""Weights from elsewhere give the logits of where they come from, or an error and no change."""

from __future__ import annotations

import copy
import io
import os
import struct
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

import senet
from senet import Architecture, Attention, ModelError
from senet.layouts import detect
from senet.resnet import BasicBlock, ResNet

State = dict[str, Tensor]


class ReferenceSE(nn.Module):
    """The SE block with the attribute names of PappaLaity/SENet-50."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        layers = (nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.excitation = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excitation(self.squeeze(x).flatten(1))
        return x * gate.unflatten(1, (-1, 1, 1))


class ReferenceBlock(nn.Module):
    """The bottleneck with the attribute names of PappaLaity/SENet-50."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(c_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.se_block = ReferenceSE(c_out)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            projection = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.se_block(self.bn3(self.conv3(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ReferenceSEResNet(nn.Module):
    """SE-ResNet-50 for CIFAR with the attribute names of PappaLaity/SENet-50, class SEResNet."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        c_in = 64
        for number, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(ReferenceBlock(c_in, width, stride))
                c_in = 4 * width
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and weights of its own, so that no mix-up goes unseen."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


SOURCES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "torchvision resnet18": (
        lambda: torchvision_resnet.resnet18(weights=None, num_classes=10),
        {"name": "resnet18"},
        "torchvision",
    ),
    "torchvision resnet50": (
        lambda: torchvision_resnet.resnet50(weights=None, num_classes=10),
        {"name": "resnet50"},
        "torchvision",
    ),
    "timm resnet50": (
        lambda: timm.create_model("resnet50", num_classes=10),
        {"name": "resnet50"},
        "torchvision",
    ),
    "timm seresnet50": (
        lambda: timm.create_model("seresnet50", num_classes=10),
        {"name": "se_resnet50"},
        "timm",
    ),
    "timm seresnet18": (
        lambda: timm.create_model("seresnet18", num_classes=10),
        {"name": "se_resnet18", "se_divisor": 8},
        "timm",
    ),
    "reference": (ReferenceSEResNet, {"name": "se_resnet50", "stem": "cifar"}, "reference"),
    "own": (
        lambda: senet.build("se_resnet18", stem="cifar", se_bias=False),
        {"name": "se_resnet18", "stem": "cifar", "se_bias": False},
        "own",
    ),
}


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        ("torchvision resnet18", ".safetensors"),
        ("torchvision resnet50", ".pt"),
        ("timm resnet50", ".safetensors"),
        ("timm seresnet50", ".pt"),
        ("timm seresnet18", ".safetensors"),
        ("reference", ".pt"),
        ("own", ".safetensors"),
        ("own", ".pt"),
    ],
)
def test_logits_equal_those_of_the_source(source: str, suffix: str, tmp_path: Path) -> None:
    """Whatever layout the weights come in, the logits differ by less than 1e-5."""
    make, options, layout = SOURCES[source]
    theirs = randomise(make())
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(theirs.state_dict(), path)
    else:
        safetensors.torch.save_file(theirs.state_dict(), path)
    ours = senet.build(**options).eval()
    assert senet.load_weights(ours, path) == layout
    images = torch.randn(2, 3, 32, 32) if "imagenet" in str(senet.describe(ours)) else small()
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.std() > 0.01  # the comparison says something
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def small() -> Tensor:
    return torch.randn(2, 3, 16, 16)


def tiny(
    stem: str = "cifar", num_classes: int = 5, reduction: int = 16, se_bias: bool = True
) -> ResNet:
    """Return a quick model: one basic block with SE a stage."""
    se = Attention("se", reduction=reduction, bias=se_bias)
    return ResNet(BasicBlock, (1, 1, 1, 1), stem=stem, num_classes=num_classes, attention=se)


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def frozen(model: nn.Module) -> State:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
        lambda state: {"checkpoint": 1, "model": {"state_dict": state}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_usual_wrappers_are_seen_through(wrap: Callable[[State], Any], tmp_path: Path) -> None:
    """Checkpoints of training scripts, DataParallel and torch.compile hold the same weights."""
    source, target = randomise(tiny()), tiny()
    torch.save(wrap(source.state_dict()), tmp_path / "w.pth")
    senet.load_weights(target, tmp_path / "w.pth")
    assert same(frozen(source), frozen(target))


def test_weights_in_half_precision_fit(tmp_path: Path) -> None:
    """A bf16 file is cast to the model's own precision."""
    source, target = randomise(tiny()), tiny()
    torch.save({k: v.bfloat16() if v.is_floating_point() else v
                for k, v in source.state_dict().items()}, tmp_path / "w.pt")  # fmt: skip
    senet.load_weights(target, tmp_path / "w.pt")
    assert target.fc.weight.dtype == torch.float32
    assert torch.equal(target.fc.weight, source.fc.weight.bfloat16().float())


def test_files_without_batch_counts_fit(tmp_path: Path) -> None:
    """Files of torch before 0.4.1 lack num_batches_tracked, and load."""
    source, target = randomise(tiny()), tiny()
    old = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    torch.save(old, tmp_path / "w.pt")
    senet.load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.stage1[0].bn1.running_var, source.stage1[0].bn1.running_var)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"num_classes": 1000},
            ": the file has 5 classes, the model 1000; wrongly shaped: "
            "fc.weight ((5, 512) in the file, (1000, 512) in the model), "
            "fc.bias ((5,) in the file, (1000,) in the model)",
        ),
        ({"stem": "imagenet"}, "ResNet: the file has the cifar stem: --stem cifar; "),
        ({"reduction": 8}, ": the file's SE blocks are of other widths: --reduction 16; "),
        (
            {"se_bias": False},
            ": the file's SE blocks have a bias: --se-bias; "
            "unexpected: stage1.0.se.fc1.bias, stage1.0.se.fc2.bias and 6 more",
        ),
    ],
)
def test_what_does_not_fit_is_listed_and_changes_nothing(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """The error lists the keys and what to do; the model keeps every value."""
    torch.save(tiny().state_dict(), tmp_path / "w.pt")
    model = tiny(**options)
    before = frozen(model)
    with pytest.raises(ModelError) as caught:
        senet.load_weights(model, tmp_path / "w.pt")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(before, frozen(model))


def test_all_three_kinds_of_difference_are_listed(tmp_path: Path) -> None:
    """One missing, one unexpected and one wrongly shaped key, each under its heading."""
    state = tiny().state_dict()
    del state["stem.bn.bias"]
    state["stem.bn.gamma"] = torch.ones(64)
    state["fc.bias"] = torch.zeros(5, 1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(tiny(), tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path}/w.pt does not fit ResNet: "
        "wrongly shaped: fc.bias ((5, 1) in the file, (5,) in the model); "
        "missing: stem.bn.bias; unexpected: stem.bn.gamma"
    )


def test_integers_do_not_fit_where_fractions_belong(tmp_path: Path) -> None:
    """A quantised file is not cast silently."""
    state = tiny().state_dict()
    state["fc.weight"] = state["fc.weight"].to(torch.int8)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"fc.weight \(\(5, 512\) integer in the file"):
        senet.load_weights(tiny(), tmp_path / "w.pt")


def test_timm_s_rounding_is_named(tmp_path: Path) -> None:
    """timm's seresnet18 has a hidden width of 8 where C / r is 4; the error says what to build."""
    torch.save(timm.create_model("seresnet18", num_classes=10).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="--reduction 16 --se-divisor 8; wrongly"):
        senet.load_weights(senet.build("se_resnet18"), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("file", "model", "says"),
    [
        ("resnet18", "se_resnet18", "the file is of a model without SE blocks"),
        ("se_resnet18", "resnet18", "the file holds se_resnet18 (imagenet stem, 10 classes"),
        ("resnet34", "resnet18", "(3, 4, 6, 3) blocks in its stages, the model (2, 2, 2, 2)"),
    ],
)
def test_another_architecture_is_named(file: str, model: str, says: str, tmp_path: Path) -> None:
    """A file that this project wrote says whose weights it holds."""
    senet.save_weights(senet.build(file), tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build(model), tmp_path / "w.safetensors")
    assert says in str(caught.value)
    assert f"does not fit {model} (imagenet stem, 10 classes" in str(caught.value)


@pytest.mark.parametrize("name", ["legacy_seresnet18", "seresnet152d"])
def test_networks_that_compute_something_else_are_refused(name: str, tmp_path: Path) -> None:
    """timm's legacy and deep-stem networks are near relatives whose keys do not fit."""
    with torch.device("meta"):
        shapes = timm.create_model(name).state_dict()
    torch.save({k: torch.zeros(v.shape) for k, v in shapes.items()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="does not fit"):
        senet.load_weights(tiny(num_classes=1000, stem="imagenet"), tmp_path / "w.pt")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_saving_and_loading_is_exact(layout: torch.memory_format, tmp_path: Path) -> None:
    """What is loaded is what was saved, to the bit, in either memory format."""
    source = randomise(tiny()).to(memory_format=layout)
    senet.save_weights(source, tmp_path / "new" / "w.safetensors")
    target = tiny().to(memory_format=torch.channels_last)
    assert senet.load_weights(target, tmp_path / "new" / "w.safetensors") == "own"
    assert same(frozen(source), frozen(target))
    assert target.stage1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_file_depends_on_the_weights_alone(tmp_path: Path) -> None:
    """Memory format, gradients, training flag and compilation change no byte of it."""
    model = randomise(tiny())
    other = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
    other(small()).sum()  # a forward in training changes the statistics …
    other.load_state_dict(model.state_dict())  # … which this takes back
    senet.save_weights(model, tmp_path / "a.safetensors")
    senet.save_weights(torch.compile(other), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tied_tensors_can_be_saved(tmp_path: Path) -> None:
    """Two names for one tensor are written twice, as safetensors demands."""
    model = tiny()
    model.stage1[0].bn2.weight = model.stage1[0].bn1.weight
    senet.save_weights(model, tmp_path / "w.safetensors")
    state, _ = senet.read_weights(tmp_path / "w.safetensors")
    assert torch.equal(state["stage1.0.bn1.weight"], state["stage1.0.bn2.weight"])


def test_the_file_names_its_architecture(tmp_path: Path) -> None:
    """The metadata holds every option; a model from elsewhere has none."""
    model = senet.build("se_resnet18", stem="cifar", num_classes=3, reduction=8, se_bias=False)
    senet.save_weights(model, tmp_path / "w.safetensors")
    expected = Architecture("se_resnet18", "cifar", 3, Attention("se", reduction=8, bias=False))
    assert senet.read_architecture(tmp_path / "w.safetensors") == expected
    senet.save_weights(nn.Linear(2, 2), tmp_path / "linear.safetensors")
    assert senet.read_architecture(tmp_path / "linear.safetensors") is None
    torch.save(model.state_dict(), tmp_path / "w.pt")
    assert senet.read_architecture(tmp_path / "w.pt") is None
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:99])
    with pytest.raises(ModelError, match=r"cannot read weights file .*cut\.safetensors"):
        senet.read_architecture(tmp_path / "cut.safetensors")


def test_files_obey_the_umask_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Others may read the file where the umask lets them; no temporary file stays."""
    old = os.umask(0o027)
    try:
        senet.save_weights(tiny(), tmp_path / "w.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while writing is one line, the old weights stay, no stub is left."""
    path = tmp_path / "w.safetensors"
    senet.save_weights(tiny(), path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"cannot write .*w.safetensors: No space left on device"):
        senet.save_weights(randomise(tiny()), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    """Saving below a file fails with the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot write"):
        senet.save_weights(tiny(), tmp_path / "file" / "w.safetensors")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """safetensors and torch take damaged values; the SHA-256 in our own files does not."""
    path = tmp_path / "w.safetensors"
    senet.save_weights(tiny(), path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    model = tiny()
    before = frozen(model)
    with pytest.raises(ModelError, match="is damaged: its SHA-256 does not match"):
        senet.load_weights(model, path)
    assert same(before, frozen(model))


@pytest.fixture(scope="module")
def whole_files() -> dict[str, bytes]:
    """One small file of each kind, as bytes."""
    state = {"a": torch.ones(20), "b": torch.zeros(3, 3)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return {".safetensors": safetensors.torch.save(state), ".pt": buffer.getvalue()}


@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from([".safetensors", ".pt"]), data=st.data())
def test_damaged_files_are_refused_in_one_line(
    whole_files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    data: st.DataObject,
) -> None:
    """Whatever is cut off or overwritten: a ModelError of one line, never anything else."""
    content = bytearray(whole_files[suffix])
    length = data.draw(st.integers(0, len(content)))
    start = data.draw(st.integers(0, len(content)))
    noise = data.draw(st.binary(max_size=40))
    content[start : start + len(noise)] = noise
    path = tmp_path_factory.mktemp("damaged") / f"w{suffix}"
    path.write_bytes(content[:length])
    with pytest.raises(ModelError) as caught:  # the whole file does not fit the model either
        senet.load_weights(nn.Linear(1, 1), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(
    whole_files: dict[str, bytes], suffix: str, share: float, tmp_path: Path
) -> None:
    """A file cut short cannot be read."""
    content = whole_files[suffix]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"cannot read weights file .*w\."):
        senet.read_weights(path)


class Trace:
    """Unpickling this makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": {"fc.weight": x}}])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_leaves_no_trace(
    wrap: Callable[[object], object], zipped: bool, tmp_path: Path
) -> None:
    """Objects are refused by name and nothing that they stand for is run."""
    trace = tmp_path / "trace"
    path = tmp_path / "w.pt"
    torch.save(wrap(Trace(str(trace))), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"it holds a Python object \(\S*open\)"):
        senet.load_weights(tiny(), path)
    assert not trace.exists()


def test_a_whole_pickled_model_is_refused_with_advice(tmp_path: Path) -> None:
    """torch.save(model) is code; the error says to save the state dict."""
    torch.save(tiny(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"save model.state_dict\(\) alone"):
        senet.load_weights(tiny(), tmp_path / "w.pt")


def test_a_huge_header_is_refused(tmp_path: Path) -> None:
    """A safetensors header that claims an exabyte is not believed."""
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ModelError, match="cannot read"):
        senet.read_weights(tmp_path / "w.safetensors")


def test_foreign_metadata_is_harmless(tmp_path: Path) -> None:
    """What other programs note under names of their own is not read."""
    state = {"fc.weight": torch.ones(2, 2)}
    for facts in ({"format": "pt"}, {"sha256": "0"}, {"Senet": "{"}, {"": ""}, {"a": "[]"}):
        safetensors.torch.save_file(state, tmp_path / "w.safetensors", facts)
        assert senet.read_weights(tmp_path / "w.safetensors")[1] is None


@pytest.mark.parametrize(
    "note", ["", "{", "[]", "null", "1", "{}", '{"sha256": null}', '{"sha256": "0"}', "[" * 99999]
)
def test_a_damaged_note_does_not_skip_the_check(note: str, tmp_path: Path) -> None:
    """A note of our own that cannot be parsed, or has no sum, leaves nothing to trust."""
    state = {"fc.weight": torch.ones(2, 2)}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors", {"senet": note})
    with pytest.raises(ModelError, match="damaged"):
        senet.read_weights(tmp_path / "w.safetensors")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds no state dict but list"),
        ({"epoch": 1}, "holds no state dict; its keys: epoch"),
        ({}, "holds no state dict; its keys: none"),
        ({"a": torch.ones(1), "b": 3}, "'b' is no tensor, int"),
        ({"a": torch.ones(2).to_sparse()}, "'a' is no dense tensor"),
    ],
)
def test_files_without_a_state_dict(content: object, says: str, tmp_path: Path) -> None:
    """A torch file of something else says what it holds."""
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        senet.load_weights(tiny(), tmp_path / "w.pt")
    assert says in str(caught.value)


def test_the_same_weights_twice_are_refused(tmp_path: Path) -> None:
    """A file with two layouts at once does not say which weights to take."""
    state = tiny().state_dict()
    state["conv1.weight"] = state["stem.conv.weight"] + 1
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="the same weights twice"):
        senet.load_weights(tiny(), tmp_path / "w.pt")


def test_paths_that_are_no_weights_file(tmp_path: Path) -> None:
    """Missing, a folder, or an unknown ending: each is said."""
    (tmp_path / "w.onnx").touch()
    for name, says in (
        ("none.pt", "none.pt does not exist"),
        ("", "is not a file"),
        ("w.onnx", "has an unknown ending; choose from: .safetensors, .pt, .pth"),
    ):
        with pytest.raises(ModelError) as caught:
            senet.load_weights(tiny(), tmp_path / name)
        assert says in str(caught.value)


def test_the_meta_device_takes_and_gives_nothing(tmp_path: Path) -> None:
    """A model without storage says so instead of pretending."""
    torch.save(tiny().state_dict(), tmp_path / "w.pt")
    with torch.device("meta"):
        model = tiny()
    with pytest.raises(ModelError, match="meta device"):
        senet.load_weights(model, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="meta device"):
        senet.save_weights(model, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache and no network."""

    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_torchvision_weights_from_its_cache(hub: Path) -> None:
    """`torchvision:IMAGENET1K_V1` reads the file that torchvision names."""
    theirs = randomise(torchvision_resnet.resnet18(weights=None))
    url = torchvision_resnet.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(theirs.state_dict(), hub / url.rpartition("/")[2])
    ours = senet.build("resnet18", num_classes=1000)
    assert senet.load_weights(ours, "torchvision:IMAGENET1K_V1") == "torchvision"
    assert same(frozen(theirs), frozen(ours))


def test_torchvision_weights_without_a_network(
    hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the address and what to do; standard output stays the caller's."""
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build("resnet18", num_classes=1000), "torchvision:DEFAULT")
    assert str(caught.value) == (
        "cannot download https://download.pytorch.org/models/resnet18-f37072fd.pth: "
        "<urlopen error no network here>; "
        "without a network, fetch that file elsewhere and give its path"
    )
    assert capsys.readouterr().out == ""


def test_a_malicious_file_in_torch_s_cache_leaves_no_trace(hub: Path, tmp_path: Path) -> None:
    """The cache is read with weights_only as well."""
    url = torchvision_resnet.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(Trace(str(tmp_path / "trace")), hub / url.rpartition("/")[2])
    with pytest.raises(ModelError):
        senet.load_weights(senet.build("resnet18", num_classes=1000), "torchvision:DEFAULT")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("options", "name", "says"),
    [
        (
            {"name": "resnet50", "num_classes": 1000},
            "V3",
            "unknown torchvision weights of resnet50 'V3'; "
            "choose from: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT",
        ),
        (
            {"name": "resnet18"},
            "DEFAULT",
            "torchvision:DEFAULT is of resnet18 (imagenet stem, 1000 classes), "
            "the model is resnet18 (imagenet stem, 10 classes): "
            "build it with 1000 classes",
        ),
        (
            {"name": "resnet18", "num_classes": 1000, "stem": "cifar"},
            "DEFAULT",
            "the model is resnet18 (cifar stem, 1000 classes): build it with --stem imagenet",
        ),
        ({"name": "se_resnet18"}, "DEFAULT", "torchvision has no weights for se_resnet18; "),
    ],
)
def test_torchvision_weights_that_cannot_fit_are_not_fetched(
    hub: Path, options: dict[str, Any], name: str, says: str
) -> None:
    """Names, classes, stem and SE are checked before anything is downloaded."""
    with pytest.raises(ModelError) as caught:
        senet.load_weights(senet.build(**options), f"torchvision:{name}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "layout"),
    [
        (["stem.conv.weight"], "own"),
        (["conv1.weight", "layer1.0.conv1.weight"], "torchvision"),
        (["conv1.weight", "layer1.0.conv1.weight", "layer1.0.se.fc1.weight"], "timm"),
        (["conv1.weight", "layer1.0.se_block.excitation.0.weight"], "reference"),
        (["layer0.conv1.weight", "layer1.0.conv1.weight"], "unknown"),
        ([], "unknown"),
    ],
)
def test_layouts_are_told_apart(keys: list[str], layout: str) -> None:
    """Each layout has keys that no other has."""
    assert detect(keys) == layout
