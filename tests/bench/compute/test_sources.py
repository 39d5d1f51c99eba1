"""Models from anywhere: built, identified, listed, and refused in one line."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import senet
from bench.compute import foreign
from bench.compute.model import build, identify
from bench.compute.sources import SOURCES, Source, listed
from bench.errors import UserError
from bench.spec.model_name import ModelName, parse
from bench.spec.run import ModelSpec
from senet.attention import Attention
from senet.errors import ModelError

CODE = Path(__file__).parents[2] / "factories" / "user_model.py"


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, others = a.state_dict(), b.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[k], others[k]) for k in mine)


@pytest.fixture
def code(tmp_path: Path) -> str:
    """A copy of the user's file, which a test may change."""
    shutil.copy(CODE, tmp_path / "mine.py")
    return str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("resnet18", ModelName("", "resnet18")),
        ("timm:resnet50.a1_in1k", ModelName("timm", "resnet50.a1_in1k")),
        ("hf-hub:org/name@rev", ModelName("hf-hub", "org/name@rev")),
        (r"py:C:\mine.py:make", ModelName("py", r"C:\mine.py:make")),
        (
            'timm:vit[depth=4, drop_path_rate=0.1,act="a,b",flag=True,sizes=(2,3),x=none]',
            ModelName(
                "timm",
                "vit",
                {
                    "depth": 4,
                    "drop_path_rate": 0.1,
                    "act": "a,b",
                    "flag": True,
                    "sizes": [2, 3],
                    "x": "none",
                },
            ),
        ),
        ("onnx:runs/[old]/model.onnx", ModelName("onnx", "runs/[old]/model.onnx")),
    ],
)
def test_a_name_has_a_prefix_a_rest_and_arguments(text: str, parts: ModelName) -> None:
    assert parse(text) == parts


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a/b", "is no model: say where it comes from, as in timm:NAME"),
        (r"C:\models\mine.onnx", "is no model: say where it comes from"),  # a drive is no prefix
        ("tim:x", "pt2:; did you mean timm:?"),
        ("nope:x", "unknown prefix 'nope:'; choose from: torchvision:, timm:, hf-hub:, py:"),
        ("timm:resnet[depth=4,5]", "should be name=value, with commas: '5' is not"),
        ("timm:resnet[depth=4,depth=5]", "depth is given twice"),
        ("timm:resnet81", "unknown model 'timm:resnet81'; did you mean resnet18"),
        ("timm:resnet18.foo", "timm:resnet18 has no weights 'foo'; it has: a1_in1k"),
        ("timm:resnet18[nonsense=3]", "timm:resnet18 cannot be built: TypeError"),
        ("torchvision:resnet81", "unknown model 'torchvision:resnet81'; did you mean resnet18"),
        ("timm:vit_tiny_patch16_224[patch_size=64]", "timm:vit_tiny_patch16_224 cannot"),
        ("py:nope:make", "py:nope:make: no module 'nope' can be imported"),
        ("py:make", "py:make is no FILE.py:FUNCTION"),
        ("py:none.py:make", "there is no file none.py"),
        ("onnx:none.onnx", "onnx:none.onnx: there is no such file"),
        ("pt2:none.pt2", "pt2:none.pt2: there is no such file"),
        ("resnet56[shortcut=C]", "unknown shortcut 'C'"),
        ("resnet18[depht=3]", "unknown option of resnet18 'depht'; choose from: stem, shortcut"),
        ("resnet18[reduction=8]", "resnet18 has no SE block"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises((UserError, ModelError)) as caught:
        identify(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("nothing", "has no function 'nothing'; it has: "),
        ("not_callable", "has no function 'not_callable'"),
        ("no_module", "returned list, not a torch.nn.Module"),
        ("raising", "cannot be built: RuntimeError: no such weights"),
        ("of_seven", "tells 7 classes apart, and 10 are wanted"),
        ("returning_pairs", "returns tuple, not logits"),
        ("make[depth=3]", "takes no depth; it takes: num_classes, width"),
    ],
)
def test_a_users_function_that_makes_no_classifier_is_told_so(function: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        identify(f"py:{CODE}:{function}")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_imported_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(UserError, match="no module 'nothing_of_the_kind' can be imported"):
        identify(f"py:{tmp_path / 'mine.py'}:make")
    (tmp_path / "mine.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"importing .* failed: ZeroDivisionError"):
        identify(f"py:{tmp_path / 'mine.py'}:make")


def test_a_model_is_what_its_library_builds_from_the_same_seed() -> None:
    for name, made in (
        ("timm:resnet10t", lambda: timm.create_model("resnet10t", num_classes=10)),
        (
            "torchvision:mobilenet_v3_small",
            lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
        ),
    ):
        torch.manual_seed(3)
        expected = made()
        assert same(build(identify(name), seed=3), expected), name


def test_arguments_and_sizes_reach_the_builder() -> None:
    spec = identify("timm:vit_tiny_patch16_224[depth=2,num_classes=7,in_channels=1]", image_size=64)
    network = build(spec)
    assert (spec.num_classes, spec.in_channels, spec.image_size) == (7, 1, 64)
    assert len(network.blocks) == 2  # type: ignore[arg-type]
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 7)


def test_a_users_function_is_given_what_it_takes(code: str) -> None:
    spec = identify(f"py:{code}:make[width=4]", num_classes=3)
    network = build(spec)
    assert network.head.weight.shape == (3, 4)  # type: ignore[union-attr]
    assert same(build(spec, seed=1), build(spec, seed=1))
    assert not same(build(spec, seed=1), build(spec, seed=2))


def test_a_users_module_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(CODE, tmp_path / "of_a_user.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = identify("py:of_a_user:make")
    assert spec.origin is not None
    assert spec.origin.file_sha256 is not None
    assert build(spec)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    del sys.modules["of_a_user"]


def test_a_model_that_asks_for_values_is_identified_all_the_same() -> None:
    assert identify(f"py:{CODE}:asking").origin is not None


def test_identity_says_library_version_arguments_and_architecture() -> None:
    spec = identify("timm:resnet18[drop_rate=0.5]")
    assert spec.origin is not None
    assert (spec.stem, spec.attention, spec.arguments) == (None, None, (("drop_rate", 0.5),))
    assert (spec.origin.library, spec.origin.version) == ("timm", timm.__version__)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert hash(spec) == hash(ModelSpec.model_validate_json(spec.model_dump_json()))


def test_models_of_one_name_and_other_content_are_two(code: str) -> None:
    name = f"py:{code}:make"
    before = identify(name)
    assert identify(name) == before
    Path(code).write_text(Path(code).read_text().replace("Dropout(0.2)", "Dropout(0.3)"))
    after = identify(name)
    assert after != before  # the shapes are the same
    assert after.origin is not None
    assert before.origin is not None
    assert after.origin.architecture == before.origin.architecture
    with pytest.raises(UserError, match="is not the model that it was: its file was"):
        build(before)
    assert identify("timm:resnet18") != identify("timm:resnet18[drop_rate=0.5]")
    assert identify("timm:resnet18") != identify("torchvision:resnet18")


def test_another_version_of_the_library_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = identify("timm:resnet10t")
    assert spec.origin is not None
    older = spec.model_copy(update={"origin": spec.origin.model_copy(update={"version": "0.9.0"})})
    with pytest.raises(UserError, match=r"its version of timm was 0\.9\.0 and is"):
        build(older)
    other = {"origin": spec.origin.model_copy(update={"architecture": "0" * 16})}
    with pytest.raises(UserError, match="its layers have changed"):
        build(spec.model_copy(update=other))


def test_a_source_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine() -> Source:
        return Source(
            build=lambda rest, wanted: nn.Sequential(
                nn.Flatten(), nn.Linear(3 * wanted.image_size**2, wanted.num_classes)
            ),
            origin=lambda rest: {"revision": rest},
            names=lambda: ["one", "two"],
        )

    monkeypatch.setitem(SOURCES, "mine", mine)
    spec = identify("mine:one", image_size=4)
    assert build(spec)(torch.zeros(1, 3, 4, 4)).shape == (1, 10)
    assert listed(parse("mine:t*")) == ["mine:two"]


def test_models_are_listed_by_pattern() -> None:
    assert "timm:seresnet50" in listed(parse("timm:seres*"))
    assert all(name.startswith("torchvision:vit_") for name in listed(parse("torchvision:vit_*")))
    with pytest.raises(UserError, match="no model matches timm:zzz"):
        listed(parse("timm:zzz*"))
    with pytest.raises(UserError, match="what py: has cannot be listed"):
        listed(parse("py:*"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"timm: models need timm: pip install 'senet-bench\[timm"):
        identify("timm:resnet18")


def test_weights_of_a_foreign_model_come_back_key_for_key(tmp_path: Path) -> None:
    """Also those whose keys look like another layout of ours: an SE block of convolutions."""
    spec = identify("timm:seresnet18")
    network = build(spec, seed=5)
    senet.save_weights(network, tmp_path / "weights.safetensors")
    assert same(build(spec, weights=str(tmp_path / "weights.safetensors")), network)
    other = identify("timm:resnet10t")
    with pytest.raises(ModelError, match=r"does not fit ResNet: missing: .*; unexpected: "):
        build(other, weights=str(tmp_path / "weights.safetensors"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model in it, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "models--someone--small"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    snapshot = kept / "snapshots" / commit
    snapshot.mkdir(parents=True)
    config = {"num_classes": 1000, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config |= {"input_size": [3, 64, 64], "crop_pct": 0.8, "interpolation": "bicubic"}
    facts = {"architecture": "resnet10t", "num_classes": 1000, "pretrained_cfg": config}
    (snapshot / "config.json").write_text(json.dumps(facts))
    torch.save(timm.create_model("resnet10t").state_dict(), snapshot / "pytorch_model.bin")
    return snapshot


def test_a_model_of_the_hub_is_identified_by_its_commit(hub: Path) -> None:
    spec = identify("hf-hub:someone/small", image_size=64, num_classes=1000)
    assert spec.origin is not None
    assert spec.origin.revision == hub.name
    pretrained = build(spec, weights="pretrained").state_dict()
    saved = torch.load(hub / "pytorch_model.bin")
    assert all(torch.equal(pretrained[key], saved[key]) for key in saved)
    found = foreign.preprocessing(spec)
    assert found is not None
    assert (found.resize_size, found.interpolation, found.mean) == (80, "bicubic", (0.5, 0.5, 0.5))


def test_without_a_way_to_the_hub_one_line_says_so(hub: Path) -> None:
    with pytest.raises(UserError, match="hf-hub:someone/large: the hub cannot be reached") as error:
        identify("hf-hub:someone/large")
    assert "\n" not in str(error.value)


def test_an_exported_program_is_a_model_for_inference(tmp_path: Path) -> None:
    network = timm.create_model("resnet10t", num_classes=10).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    images = torch.randn(2, 3, 32, 32)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "sampled.pt2")
    with pytest.raises(UserError, match=r"holds a pickled member, .*_example_inputs to None"):
        identify(f"pt2:{tmp_path / 'sampled.pt2'}")
    program._example_inputs = None
    torch.export.save(program, tmp_path / "model.pt2")
    spec = identify(f"pt2:{tmp_path / 'model.pt2'}")
    found = build(spec)
    torch.testing.assert_close(found(images), network(images))
    assert not foreign.is_trainable(spec)
    with pytest.raises(UserError, match="cannot take images of 64×64"):
        identify(f"pt2:{tmp_path / 'model.pt2'}", image_size=64)
    (tmp_path / "bad.pt2").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad\.pt2 is not a \.pt2 archive"):
        identify(f"pt2:{tmp_path / 'bad.pt2'}")


def exported(network: nn.Module, path: Path) -> None:
    pytest.importorskip("onnxscript")
    images = torch.randn(1, 3, 32, 32)
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(network, (images,), dynamo=True, verbose=False)
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())


def test_an_onnx_file_is_a_model_for_inference(tmp_path: Path) -> None:
    from bench.measure.count.cost import count

    network = timm.create_model("resnet10t", num_classes=10).eval()
    exported(network, tmp_path / "model.onnx")
    spec = identify(f"onnx:{tmp_path / 'model.onnx'}")
    found, images = build(spec), torch.randn(3, 3, 32, 32)
    with torch.no_grad():  # the graph takes one image at a time
        torch.testing.assert_close(found(images), network(images), atol=1e-4, rtol=1e-4)
    facts, expected = count(found, 32), count(network, 32)
    assert facts.macs == expected.macs
    assert facts.activations == expected.activations
    assert facts.counters == ("the graph's shapes", "ONNX Runtime's run")
    with pytest.raises(UserError, match="takes images of 3×32×32, not 3×64×64"):
        identify(f"onnx:{tmp_path / 'model.onnx'}", image_size=64)
    with pytest.raises(UserError, match="tells 10 classes apart, and 5 are wanted"):
        identify(f"onnx:{tmp_path / 'model.onnx'}", num_classes=5)
    with pytest.raises(UserError, match="takes no arguments"):
        identify(f"onnx:{tmp_path / 'model.onnx'}[depth=3]")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad\.onnx is not an ONNX model"):
        identify(f"onnx:{tmp_path / 'bad.onnx'}")


@pytest.mark.parametrize(
    ("text", "attention"),
    [
        ("se_resnet18", Attention("se")),
        ("se_resnet18[reduction=8]", Attention("se", reduction=8)),
        ("cbam_resnet20", Attention("cbam")),
        ("resnet18[kind=eca]", Attention("eca")),
        (
            "se_resnet50[position=pre,stages=(2,3)]",
            Attention("se", position="pre", stages=(2, 3)),
        ),
    ],
)
def test_our_models_take_the_options_of_their_attention(text: str, attention: Any) -> None:
    spec = identify(text)
    assert spec.attention == attention
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert senet.describe(build(spec)).attention == attention  # type: ignore[union-attr]


def test_a_kind_can_be_asked_for_beside_the_name() -> None:
    spec = identify("resnet18", attention={"kind": "cbam", "reduction": 8})
    assert (spec.name, spec.attention) == ("cbam_resnet18", Attention("cbam", reduction=8))
    with pytest.raises(UserError, match="attention options do not apply"):
        identify("timm:resnet18", attention={"reduction": 8})
