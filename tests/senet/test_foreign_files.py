"""Weights files as people have them: other layouts, odd keys beside them, pointers and pages."""

from __future__ import annotations

import argparse
import collections
import datetime
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import senet
from senet import ModelError
from senet.layouts import strip_wrappers

State = dict[str, Tensor]


def ours() -> torch.nn.Module:
    torch.manual_seed(0)
    return senet.build("se_resnet18", num_classes=5)


RENAMED = {
    "moskomule": [(".se.fc1.", ".se.fc.0."), (".se.fc2.", ".se.fc.2.")],
    "mmpretrain": [
        (".se.fc1.", ".se_layer.conv1.conv."),
        (".se.fc2.", ".se_layer.conv2.conv."),
        ("fc.", "head.fc."),
    ],
}


def renamed(state: State, layout: str) -> State:
    found = {}
    for key, value in state.items():
        for old, new in RENAMED[layout]:
            if old == "fc." and not key.startswith("fc."):
                continue
            key = key.replace(old, new)
        for name, other in (("stem.conv.", "conv1."), ("stem.bn.", "bn1.")):
            key = key.replace(name, other)
        found[key.replace("stage", "layer").replace(".shortcut.", ".downsample.")] = value
    return found


@pytest.mark.parametrize("wrap", ["", "module.", "backbone.", "net.", "model."])
@pytest.mark.parametrize("layout", RENAMED)
def test_other_layouts_are_read(layout: str, wrap: str, tmp_path: Path) -> None:
    """Key by key, every weight arrives."""
    source = ours()
    state = {wrap + key: value for key, value in renamed(source.state_dict(), layout).items()}
    torch.save(state, tmp_path / "w.pth")
    target = senet.build("se_resnet18", num_classes=5)
    assert senet.load_weights(target, tmp_path / "w.pth") == layout
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_mmpretrain_s_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """The head stands beside the backbone, and SE's layers are 1×1 convolutions."""
    state = {}
    for key, value in renamed(ours().state_dict(), "mmpretrain").items():
        if ".se_layer." in key and value.ndim == 2:
            value = value[:, :, None, None]
        state[key if key.startswith("head.") else f"backbone.{key}"] = value
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    assert senet.load_weights(ours(), tmp_path / "w.pth") == "mmpretrain"


@pytest.mark.parametrize("wrap", ["", "module.", "backbone.", "net.", "model."])
def test_a_layout_that_computes_something_else_is_named(wrap: str, tmp_path: Path) -> None:
    """Cadene's bottlenecks stride in their first convolution: right shapes, wrong logits."""
    names = ((".se.", ".se_module."), ("stem.", "layer0."), ("stage", "layer"))
    state = {}
    for key, value in ours().state_dict().items():
        for old, new in names:
            key = key.replace(old, new)
        state[wrap + key] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="another key layout, that of Cadene"):
        senet.load_weights(ours(), tmp_path / "w.pth")


@pytest.mark.parametrize("odd", ["n_averaged", "criterion.weight", "num_updates", "loss.weight"])
@pytest.mark.parametrize("prefix", ["module.", "net.", "backbone.", "model.", "_orig_mod."])
def test_one_odd_key_does_not_stop_the_stripping(odd: str, prefix: str, tmp_path: Path) -> None:
    """What averages and losses keep beside the weights is no weight of the network."""
    source = ours()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save(state | {odd: torch.ones(3)}, tmp_path / "w.pth")
    assert senet.load_weights(ours(), tmp_path / "w.pth") == "own"


def test_what_was_left_is_named(tmp_path: Path) -> None:
    """A key that has no place is not dropped in silence."""
    state = {f"module.{key}": value for key, value in ours().state_dict().items()}
    torch.save(state | {"projector.weight": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"unexpected: projector\.weight"):
        senet.load_weights(ours(), tmp_path / "w.pth")
    assert "n_averaged" in strip_wrappers(
        {f"module.{n}": torch.ones(1) for n in range(9)} | {"n_averaged": torch.ones(1)}
    )


HARMLESS: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, epochs=3),
    "float64": np.float64(0.5),
    "float32": np.float32(0.5),
    "int64": np.int64(5),
    "array": np.arange(3),
    "date": datetime.datetime(2020, 1, 1),
    "ordered": collections.OrderedDict(a=1),
    "path": Path("x"),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_types_beside_the_weights_are_read(kind: str, tmp_path: Path) -> None:
    """Options, losses and dates are what scripts save along."""
    torch.save({"state_dict": ours().state_dict(), "more": HARMLESS[kind]}, tmp_path / "w.pth")
    assert senet.load_weights(ours(), tmp_path / "w.pth") == "own"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"<html><head>", "web page"),
        (b"\xef\xbb\xbf<HTML>", "web page"),
        (b"<?xml version='1.0'?><Error/>", "web page"),
        (b"not found", "damaged"),
        (b"", "damaged"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(
    content: bytes, says: str, tmp_path: Path
) -> None:
    """In one line, which never advises to let the file run its code."""
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        senet.read_weights(tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x" * 5000, "é" * 200, "a/" * 3000])
def test_names_that_cannot_be_are_one_line(name: str) -> None:
    """No file system takes them."""
    with pytest.raises(ModelError, match="does not exist"):
        senet.read_weights(f"{name}.pth")


INNER = {
    "_orig_mod.": r"^(stage\d)\.",
    "_fsdp_wrapped_module.": r"^(stage\d\.\d)\.",
    "_checkpoint_wrapped_module.": r"^(stage\d\.\d)\.",
    "_fpw_module.": r"^(stem)\.",
}


@pytest.mark.parametrize("inner", INNER)
def test_wrappers_of_single_layers_are_stripped(inner: str, tmp_path: Path) -> None:
    source = ours()
    state = {
        re.sub(INNER[inner], rf"\1.{inner}", key): value
        for key, value in source.state_dict().items()
    }
    torch.save({"module": state, "ds_version": "0.1"}, tmp_path / "w.pth")
    target = senet.build("se_resnet18", num_classes=5)
    assert senet.load_weights(target, tmp_path / "w.pth") == "own"
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


STRANGE = {
    "SE as layers of the block": (r"\.se\.fc", ".fc"),
    "stages in a list": (r"^stage\d", "resnet.encoder.stages.0.layers"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_has_other_layers_is_not_called_a_model_without_se(kind: str, tmp_path: Path) -> None:
    old, new = STRANGE[kind]
    state = {re.sub(old, new, key): value for key, value in ours().state_dict().items()}
    torch.save({k: v for k, v in state.items() if not k.startswith("stem")}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="another key layout"):
        senet.load_weights(ours(), tmp_path / "w.pth")


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_unread(tmp_path: Path) -> None:
    torch.save(ours().state_dict(), tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in whole.namelist():
            zeros = bytes(1 << 27) if member.endswith("/data/0") else b""
            bomb.writestr(member, whole.read(member) + zeros)
    with pytest.raises(ModelError, match="it would unpack to"):
        senet.load_weights(ours(), tmp_path / "bomb.pth")


def test_numbers_that_need_a_scale_are_refused(tmp_path: Path) -> None:
    """Weights in 8 bits are nothing without what they are to be multiplied by."""
    state = ours().state_dict()
    small = {k: v.to(torch.float8_e5m2) if v.is_floating_point() else v for k, v in state.items()}
    torch.save(small, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"is of torch\.float8_e5m2, without its scale"):
        senet.load_weights(ours(), tmp_path / "w.pth")
