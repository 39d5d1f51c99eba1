"""A model from elsewhere goes the whole way: trained, continued, profiled, evaluated, reported."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.machine import generators
from bench.record.read_write import read_record

CODE = Path(__file__).parents[2] / "factories" / "user_model.py"
SMALL = ("--dataset", "shapes", "--train-limit", "80", "--test-limit", "20")
QUICK = ("--no-memory", "--no-charts", "--max-seconds", "0.3", "--batch-size", "2")


def invoke(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == code, result.output
    return result


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(CODE, "mine.py")
    return tmp_path


def test_a_users_model_goes_the_whole_way(workplace: Path) -> None:
    name = "py:./mine.py:make[width=4]"
    options = (*SMALL, "--recipe", "quick", "--epochs", "1", "--batch-size", "16")
    invoke("train", name, *options)
    (run,) = Path("runs").iterdir()
    assert run.name.startswith("py_._mine.py_make-shapes-quick")
    record = read_record(run / "run.json")
    assert record.kind == "run"
    model = record.spec.model
    assert (model.name, model.arguments) == ("py:./mine.py:make", (("width", 4),))
    assert model.origin is not None
    assert record.macs is not None
    assert record.macs > 0

    again = invoke("train", name, *options)  # found, and not trained again
    assert len(list(Path("runs").iterdir())) == 1
    assert "epoch 1/1" not in again.output

    found = json.loads(invoke("evaluate", str(run), "--json").stdout)
    assert record.test is not None
    assert found["accuracy"]["top1"] == record.test.top1

    invoke("profile", "--run", str(run), *QUICK)
    invoke("report", "runs", "profiles", "--out", "report")
    text = Path("report/report.md").read_text()
    assert "py:./mine.py:make" in text
    assert "None" not in text
    (row,) = table("report/results.csv")
    assert row["library"] == f"file {model.origin.file_sha256[:8]}"  # type: ignore[index]
    assert row["arguments"] == "width=4"
    assert (row["stem"], row["depth"], row["se"]) == ("", "", "False")
    assert float(row["latency_ms"]) > 0
    assert "senet-bench train 'py:./mine.py:make[width=4]' --dataset shapes" in text


def test_a_file_that_changed_is_another_run_and_another_row(workplace: Path) -> None:
    options = (*SMALL, "--recipe", "quick", "--epochs", "1", "--batch-size", "16")
    invoke("train", "py:./mine.py:make", *options)
    code = Path("mine.py").read_text()
    Path("mine.py").write_text(code.replace("Dropout(0.2)", "Dropout(0.5)"))
    invoke("train", "py:./mine.py:make", *options)
    assert len(list(Path("runs").iterdir())) == 2
    invoke("report", "runs", "--out", "report")
    rows = table("report/results.csv")
    assert len(rows) == 2
    assert len({row["library"] for row in rows}) == 2
    assert "file " in Path("report/report.md").read_text()  # what tells the two apart

    old = next(run for run in Path("runs").iterdir() if _file_of(run) != _file_of_now())
    result = invoke("evaluate", str(old), code=2)
    assert "is not the model that it was: its file was" in result.stderr


def _file_of(run: Path) -> str | None:
    record = read_record(run / "run.json")
    assert record.kind == "run"
    assert record.spec.model.origin is not None
    return record.spec.model.origin.file_sha256


def _file_of_now() -> str:
    from bench.record.files import sha256

    return sha256(Path("mine.py"))


def test_timms_and_torchvisions_models_stand_beside_ours(workplace: Path) -> None:
    names = ("timm:vit_tiny_patch16_224[depth=1]", "torchvision:shufflenet_v2_x0_5", "se_resnet18")
    found = json.loads(invoke("profile", *names, "--image-size", "64", "--json", *QUICK).stdout)
    rows = {row["model"]: row for row in found["rows"]}
    assert list(rows) == [names[0].partition("[")[0], *names[1:]]
    assert all(row["status"] == "ok" for row in rows.values())
    assert rows["se_resnet18"]["reduction"] == 16
    assert rows["torchvision:shufflenet_v2_x0_5"]["stem"] is None


def test_what_was_exported_cannot_be_trained(workplace: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=dynamic)
    torch.export.save(program, "mine.pt2")
    result = invoke("train", "pt2:mine.pt2", *SMALL, code=2)
    assert "pt2:mine.pt2 was exported for inference, and cannot be trained" in result.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("train", "nope:x"), "unknown prefix 'nope:'"),
        (("train", "timm:resnet81", "--dataset", "shapes"), "did you mean resnet18"),
        (("profile", "timm:resnet18", "--reduction", "8"), "attention options do not apply"),
        (("profile", "resnet18", "--attention", "x"), "unknown attention 'x'; choose from: none"),
        (("profile", "resnet18", "--attention", "cbam,reduction=0"), "reduction must be an"),
        (
            ("profile", "se_resnet18", "--attention", "reduction=4", "--reduction", "8"),
            "both say reduction",
        ),
        (("train", "py:mine.py:of_seven", "--dataset", "shapes"), "tells 7 classes apart, and 10"),
        (("train", "resnet18[num_classes=5]", "--dataset", "shapes"), "has 10 classes, not 5"),
        (("models", "timm:zzz*"), "no model matches timm:zzz*"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], problem: str, workplace: Path
) -> None:
    result = invoke(*arguments, code=2)
    assert problem in result.stderr
    assert len(result.stderr.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in result.output
    assert not Path("runs").exists()


def test_attention_can_be_asked_for_beside_the_name(workplace: Path) -> None:
    found = json.loads(
        invoke("profile", "resnet20", "--attention", "cbam,reduction=4", "--json", *QUICK).stdout
    )
    (row,) = found["rows"]
    assert (row["model"], row["attention"]) == ("cbam_resnet20", "cbam, reduction=4")


def test_every_generator_goes_on_where_it_was() -> None:
    """Also in the middle of what Python and NumPy draw two at a time."""
    generators.seed(3)
    random.gauss(0, 1), np.random.standard_normal()
    saved = generators.states("cpu")

    def drawn() -> list[float]:
        own = [random.gauss(0, 1), random.random(), float(np.random.standard_normal())]
        return [*own, float(np.random.rand()), float(torch.rand(1))]

    first = drawn()
    drawn()
    generators.restore(saved, "cpu")
    assert drawn() == first
    generators.restore({"cpu": saved["cpu"]}, "cpu")  # as checkpoints had them before
    assert float(torch.rand(1)) == first[-1]


def test_an_onnx_file_runs_as_it_is_and_in_no_runtime_of_torch(workplace: Path) -> None:
    """Its rows in eager would be ONNX Runtime's under another name."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(3 * 32 * 32, 10)).astype(np.float32)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 10])
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "mine", [images], [logits], constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "mine.onnx")
    runtimes = ("--runtime", "eager,onnxruntime,openvino", "--json")
    result = invoke("profile", "onnx:mine.onnx", *runtimes, *QUICK)
    rows = {row["runtime"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["onnxruntime"]["status"] == rows["openvino"]["status"] == "ok"
    assert rows["onnxruntime"]["macs"] == 3 * 32 * 32 * 10
    assert rows["eager"]["status"] == "unsupported"
    assert "runs in onnxruntime or openvino" in rows["eager"]["reason"]


def test_images_of_one_channel_are_refused_in_one_line(workplace: Path) -> None:
    result = invoke("profile", "timm:resnet10t[in_channels=1]", *QUICK, code=2)
    assert "takes images of 1 channels; only those of 3 can be profiled" in result.stderr
