"""What `evaluate` says of weights: how pixels were normalised, and whether a record is right."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench.api import evaluate, train
from bench.cli.app import app
from bench.compute import foreign
from bench.compute.model import sketch
from bench.errors import UserError
from bench.spec.run import DataSpec

MODEL = """
import torch
def make(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run."""
    (tmp_path / "mine.py").write_text(MODEL)
    train(
        f"py:{tmp_path}/mine.py:make", "shapes", out=tmp_path / "runs", progress=False,
        device="cpu", train_limit=40, test_limit=20, epochs=1, batch_size=20,
    )  # fmt: skip
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def test_a_record_that_contradicts_its_predictions_is_an_error(run: Path) -> None:
    """Top-1 raised by hand: one line with both figures, exit code 2."""
    assert invoke(str(run)).exit_code == 0
    path = run / "run.json"
    record = json.loads(path.read_text())
    record["test"] |= {"top1_correct": 20, "top1": 1.0, "top5_correct": 20, "top5": 1.0}
    path.write_text(json.dumps(record))
    found = invoke(str(run))
    assert found.exit_code == 2
    assert "contradicts itself: its predictions have" in found.output
    assert "its record says 20 and 20 of 20" in found.output
    (run / "predictions.npz").unlink()  # what it hashed is gone: the weights still tell
    found = invoke(str(run))
    assert found.exit_code == 1
    assert "contradicts its record's accuracy" in found.output


@pytest.mark.parametrize("change", [{"num_images": 0}, {"top5_correct": 0}, {"top5": 1.0}])
def test_any_count_is_held_to_the_predictions(run: Path, change: dict[str, Any]) -> None:
    path = run / "run.json"
    record = json.loads(path.read_text())
    record["test"] |= change
    path.write_text(json.dumps(record))
    found = invoke(str(run))
    assert (found.exit_code, "contradicts itself" in found.output) == (2, True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"epochs": 2}, "its epochs are numbered 1, 1"),
        ({"params": 0}, "params is 0"),
        ({"dataset": {"classes": ["a"]}}, "10 outputs for 1 classes"),
    ],
)
def test_what_a_report_sets_aside_is_refused_in_the_same_words(
    run: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    path = run / "run.json"
    record = json.loads(path.read_text())
    if "epochs" in change:
        record["epochs"] *= change["epochs"]
    else:
        record |= {k: record[k] | v if isinstance(v, dict) else v for k, v in change.items()}
    path.write_text(json.dumps(record))
    refused = invoke(str(run))
    assert refused.exit_code == 2
    assert f"contradicts itself: {why}" in refused.output
    report = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "out")])
    assert report.exit_code == 2
    assert f"contradicts itself: {why}" in report.output


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x93NUMPY", b"x" * 99])
def test_predictions_that_are_none_say_nothing_of_a_record(run: Path, content: bytes) -> None:
    """However right their hash is: the weights are tested."""
    (run / "predictions.npz").write_bytes(content)
    record = json.loads((run / "run.json").read_text())
    record["predictions"]["sha256"] = hashlib.sha256(content).hexdigest()
    (run / "run.json").write_text(json.dumps(record))
    found = invoke(str(run))
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("name", ["x" * 300 + ".pt", "x" * 300 + ".onnx", "x\0y", "a/" * 3000])
def test_names_that_no_file_can_have_are_one_line(name: str) -> None:
    found = invoke(name, "--model", "resnet18", "--dataset", "shapes", "--device", "cpu")
    assert found.exit_code == 2, found.output
    assert isinstance(found.exception, SystemExit)


def test_a_users_function_that_exits_is_told(tmp_path: Path) -> None:
    (tmp_path / "quit.py").write_text("def make(num_classes):\n    raise SystemExit(3)\n")
    with pytest.raises(UserError, match="cannot be built: SystemExit: 3"):
        train(f"py:{tmp_path}/quit.py:make", "shapes", out=tmp_path, progress=False, device="cpu")


def test_the_normalisation_is_told_and_can_be_chosen(run: Path, tmp_path: Path) -> None:
    """Of a file nobody knows: the data's own pixels unless another is named."""
    arguments = (str(run / "weights.safetensors"), "--model", f"py:{tmp_path}/mine.py:make")
    arguments += ("--dataset", "shapes", "--test-limit", "20", "--device", "cpu")
    assert (
        "deviation 0.229, 0.224, 0.225" in invoke(*arguments, "--normalization", "imagenet").output
    )
    half, own = invoke(*arguments, "--normalization", "half"), invoke(*arguments)
    assert "pixels: mean 0.5, 0.5, 0.5; deviation 0.5, 0.5, 0.5" in half.output
    assert "0.485" not in own.output
    assert "test top-1" in own.output
    unknown = invoke(*arguments, "--normalization", "inception")
    assert unknown.exit_code == 2
    assert "choose from: imagenet, half, pixels" in unknown.output


def test_weights_of_torchvision_bring_their_normalisation_to_our_networks() -> None:
    """By the name of the weights; a network that torchvision has not brings nothing."""
    data = DataSpec(name="shapes")
    found = foreign.prepared(data, sketch("resnet50"), "torchvision:IMAGENET1K_V2")
    assert found.preprocessing is not None
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    assert foreign.prepared(data, sketch("se_resnet50"), "torchvision:X").preprocessing is None
    assert foreign.prepared(data, sketch("resnet50"), "file.pth").preprocessing is None
    with pytest.raises(UserError, match="has no weights 'NONE'; it has: IMAGENET1K_V1"):
        foreign.prepared(data, sketch("resnet50"), "torchvision:NONE")


def test_an_onnx_model_is_said_to_run_in_onnxruntime(run: Path, tmp_path: Path) -> None:
    """The record of an exported model names what computes it."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    file = tmp_path / "net.onnx"
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, 32, 32),), file, dynamo=True)
    evaluate(
        f"onnx:{file}", "shapes", out=tmp_path / "loaded", progress=False, device="cpu",
        test_limit=4,
    )  # fmt: skip
    (record,) = (tmp_path / "loaded").rglob("run.json")
    assert json.loads(record.read_text())["runtime"] == "onnxruntime"


def test_a_folder_to_test_on_needs_nothing_to_train_on(tmp_path: Path) -> None:
    """The weights of a run bring the mean and deviation of what they were trained on."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, level in (("a", 60), ("b", 120)):
            folder = tmp_path / "pics" / split / name
            folder.mkdir(parents=True)
            for n in range(8):
                pixels = rng.integers(0, level, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n}.png")
    (tmp_path / "mine.py").write_text(MODEL)
    train(
        f"py:{tmp_path}/mine.py:make", "folder", out=tmp_path / "runs", progress=False,
        device="cpu", data_dir=str(tmp_path / "pics"), epochs=1, batch_size=8,
    )  # fmt: skip
    (run,) = (tmp_path / "runs").iterdir()
    before = json.loads(invoke(str(run), "--json").stdout)
    shutil.rmtree(tmp_path / "pics" / "train")
    after = json.loads(invoke(str(run), "--json").stdout)
    for key in ("accuracy", "normalization"):
        assert after[key] == before[key]
    alone = [str(run / "weights.safetensors"), "--model", f"py:{tmp_path}/mine.py:make"]
    alone += ["--dataset", "folder", "--data-dir", str(tmp_path / "pics"), "--json"]
    refused = invoke(*alone, "--normalization", "pixels")
    assert (refused.exit_code, "give --normalization imagenet" in refused.stderr) == (2, True)
    told = json.loads(invoke(*alone, "--normalization", "half").stdout)
    assert told["normalization"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(UserError, match="folder has no images to train on"):
        train("resnet18", "folder", data_dir=str(tmp_path / "pics"), progress=False, device="cpu")
