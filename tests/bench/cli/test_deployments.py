"""Accuracy of exactly what is timed: from a trained run to records, artefacts and refusals."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import deployed
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from bench.cli.app import app
from bench.compute import inference
from bench.compute.session import Session
from bench.errors import UserError
from bench.execute.deploy.test_sets import check_fits
from bench.execute.jobs import ProfileJob, do
from bench.machine import noise
from bench.measure.resources import breakdown, roofline
from bench.record.deployment import QuantizationFacts
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record
from bench.record.run import RunRecord
from bench.spec.profile import ProfileSpec, TimingSpec
from bench.spec.run import ModelSpec
from bench.spec.test_set import TestSpec

QUICK = ("--max-seconds", "0.02", "--no-memory", "--no-charts", "--device", "cpu")
QUICK_TIMING = TimingSpec(
    min_blocks=2, block_s=1e-3, max_s=0.02, min_warmup_s=0, max_warmup_s=0.02, single_stream_s=0.02
)
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None
    or importlib.util.find_spec("onnxscript") is None,
    reason="onnx, onnxscript and onnxruntime are not installed",
)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure ceilings by small work, and write into a folder of the test."""
    monkeypatch.setitem(roofline.MATMUL_SIZES, "cpu", (64,))
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(noise, "GLANCE_S", 0.0)
    monkeypatch.setattr(breakdown, "BUDGET_S", 0.0)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def run(tiny_model: str) -> str:
    """Train the tiny model on a few shapes; return its run's folder."""
    limits = (
        "--dataset",
        "shapes",
        "--train-limit",
        "120",
        "--test-limit",
        "70",
        "--recipe",
        "quick",
        "--epochs",
        "1",
    )
    result = invoke("train", tiny_model, *limits, "--device", "cpu", "--out", "runs")
    assert result.exit_code == 0, result.output
    (folder,) = Path("runs").glob("*/")
    return str(folder)


def record_of(run: str) -> RunRecord:
    record = read_record(Path(run) / "run.json")
    assert isinstance(record, RunRecord)
    assert record.test is not None
    return record


def records(folder: str = "profiles") -> list[ProfileRecord]:
    found = [read_record(path) for path in Path(folder).rglob("*.json")]
    return [record for record in found if isinstance(record, ProfileRecord)]


def test_every_timed_row_has_its_own_accuracy_and_eager_fp32s_is_evaluates(run: str) -> None:
    """70 images at batches of 1 and 32, of which the last is filled up; runtimes and precisions."""
    where = ("--runtime", "eager,channels_last", "--precision", "fp32,bf16", "--batch-size", "1,32")
    result = invoke("profile", "--run", run, *where, *QUICK)
    assert result.exit_code == 0, result.output
    found = records()
    assert len(found) == 2 * 2 * 3
    test = record_of(run).test
    assert test is not None
    evaluated = json.loads(invoke("evaluate", run, "--device", "cpu", "--json").stdout)
    for record in found:
        own = record.accuracy
        assert own is not None, (record.runtime, record.precision)
        assert own.num_images == 70
        assert own.digest == record_of(run).dataset.digest
        assert own.seconds > 0
        assert record.weight_bytes is not None
        if record.precision == "fp32":
            assert own.top1_correct == test.top1_correct == evaluated["accuracy"]["top1_correct"]
            assert own.top5_correct == test.top5_correct
            assert own.changed == 0
    sizes = {record.precision: record.weight_bytes for record in found}
    assert sizes["fp32"] > 1.9 * sizes["bf16"]  # type: ignore[operator]
    assert "Accuracy of what was timed: shapes, 70 images" in result.stdout


def test_without_trained_weights_one_line_says_that_accuracy_is_not_measured(
    tiny_model: str,
) -> None:
    result = invoke("profile", tiny_model, "--batch-size", "4", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("accuracy is not measured: no trained weights") == 1
    assert [record.accuracy for record in records()] == [None]


def test_no_accuracy_measures_none_and_says_nothing(run: str) -> None:
    result = invoke("profile", "--run", run, "--no-accuracy", "--batch-size", "4", *QUICK)
    assert result.exit_code == 0, result.output
    assert "accuracy" not in result.stderr
    assert [record.accuracy for record in records()] == [None]


def test_weights_are_tested_on_the_data_set_that_is_named(run: str, tiny_model: str) -> None:
    """Normalised as the recipe named; without --dataset one line says that there is none."""
    weights = ("--weights", f"{run}/weights.safetensors", "--batch-size", "7")
    plain = invoke("profile", tiny_model, *weights, *QUICK)
    assert plain.exit_code == 0, plain.output
    assert "accuracy is not measured: no data set is named (--dataset)" in plain.stderr
    named = ("--dataset", "shapes", "--test-limit", "70", "--recipe", "quick", "--out", "named")
    result = invoke("profile", tiny_model, *weights, *named, *QUICK)
    assert result.exit_code == 0, result.output
    (record,) = records("named")
    test = record_of(run).test
    assert test is not None
    assert record.accuracy is not None
    assert abs(record.accuracy.top1_correct - test.top1_correct) <= 70  # of other train images


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny", "--accuracy"), "--accuracy needs trained weights: give --run"),
        (("tiny", "--precision", "int8"), "int8 is computed by --runtime onnxruntime"),
        (("tiny", "--scenario", "offlne"), "unknown scenario 'offlne'"),
        (("tiny", "--scenario", "server", "--rate", "0"), "--rate takes requests a second above 0"),
        (("tiny", "--rate", "5"), "--rate is for --scenario server"),
        (("tiny", "--bound-ms", "0"), "--bound-ms takes milliseconds above 0"),
        (("tiny", "--recipe", "none"), "unknown recipe"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], said: str, tiny_model: str
) -> None:
    result = invoke("profile", *arguments, "--dataset", "shapes", *QUICK)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not records()


@needs_onnx
def test_more_calibration_images_than_there_are_is_refused(run: str) -> None:
    where = ("--runtime", "onnxruntime", "--precision", "int8", "--calibration-images", "121")
    result = invoke("profile", "--run", run, *where, *QUICK)
    assert result.exit_code == 2
    assert "calibration wants 121 training images; shapes has 120" in result.stderr
    assert not records()


@needs_onnx
def test_int8_counts_its_operators_and_tells_its_calibration(run: str) -> None:
    """A convolution and a linear layer; eager has no int8 and is a row with its reason."""
    where = ("--runtime", "eager,onnxruntime", "--precision", "int8", "--calibration-images", "32")
    result = invoke("profile", "--run", run, *where, "--batch-size", "8", *QUICK)
    assert result.exit_code == 0, result.output
    eager, made = sorted(records(), key=lambda record: record.runtime)
    assert (eager.status, eager.accuracy) == ("unsupported", None)
    assert "eager does not compute in int8" in str(eager.reason)
    assert made.status == "ok"
    assert made.quantization is not None
    assert (made.quantization.int8_operators, made.quantization.operators) == (2, 2)
    assert made.quantization.calibration.source == "training split"
    assert made.accuracy is not None
    assert made.accuracy.logit_error > 0


def test_a_quantiser_that_did_nothing_is_wrong(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(network: torch.nn.Module, example: Tensor, calibration: Any) -> Session:
        facts = QuantizationFacts(
            method="none", int8_operators=0, operators=2, calibration=calibration.facts
        )
        return replace(deployed.session_of(network), quantized=lambda: facts)

    monkeypatch.setitem(inference.QUANTIZERS, "compile", nothing)
    monkeypatch.setitem(inference.INT8_EXTRAS, "compile", ("int8", ()))
    where = ("--runtime", "compile", "--precision", "int8", "--calibration-images", "16")
    result = invoke("profile", "--run", run, *where, "--batch-size", "8", *QUICK)
    assert result.exit_code == 2
    (record,) = records()
    assert record.status == "wrong"
    assert record.timing is None
    assert "none of 2 convolutions and linear layers computes in int8" in str(record.reason)


def test_a_session_that_swaps_classes_is_wrong_and_its_accuracy_is_told(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is not timed; the others are, and beside the reason stands what it gets right."""

    def swapped(network: torch.nn.Module, example: Tensor, device: str, precision: Any) -> Session:
        session = deployed.session_of(network)
        return Session(lambda x: session.call(x).flip(1), session.adapt)

    monkeypatch.setitem(inference.RUNTIMES, "channels_last", swapped)
    where = ("--runtime", "eager,channels_last", "--batch-size", "8")
    result = invoke("profile", "--run", run, *where, *QUICK)
    assert result.exit_code == 0, result.output
    wrong, right = sorted(records(), key=lambda record: record.runtime)
    assert (wrong.status, right.status) == ("wrong", "ok")
    assert wrong.accuracy is not None
    assert wrong.accuracy.changed > 35


def test_a_fault_that_random_images_do_not_show_is_found_on_the_test_set(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of noise agree: what is wrong is wrong for real images alone."""

    def faulty(network: torch.nn.Module, example: Tensor, device: str, precision: Any) -> Session:
        session = deployed.session_of(network)

        def call(images: Tensor) -> Tensor:
            logits = session.call(images)
            smooth = images.std(dim=(2, 3)).mean(dim=1) < 0.95  # noise has a deviation of 1
            return torch.where(smooth[:, None], -logits, logits)

        return Session(call, session.adapt)

    monkeypatch.setitem(inference.RUNTIMES, "channels_last", faulty)
    where = ("--runtime", "channels_last", "--batch-size", "16", "--image-size", "32")
    invoke("profile", "--run", run, *where, *QUICK)
    (record,) = records()
    assert record.parity is not None
    assert record.parity.error is not None
    assert record.parity.error < 1e-4
    assert record.accuracy is not None
    assert record.accuracy.changed > 20
    assert record.status == "wrong"
    assert "of 70 test images get another class than from eager fp32" in str(record.reason)


def test_scenarios_are_rows_of_their_own(run: str) -> None:
    asked = ("--scenario", "end_to_end,server", "--batch-size", "1,8", "--bound-ms", "1000")
    result = invoke("profile", "--run", run, *asked, *QUICK)
    assert result.exit_code == 0, result.output
    assert "End to end: JPEG, shapes, 32×32" in result.stdout
    assert "As a server" in result.stdout
    found = {(record.scenario, record.batch_size): record for record in records()}
    assert set(found) == {
        *(("offline", size) for size in (1, 8)),
        *(("end_to_end", size) for size in (1, 8)),
        ("single_stream", 1),
        ("server", 1),
    }
    served = found["server", 1].server
    assert served is not None
    assert served.highest_rate is not None
    assert found["end_to_end", 8].end_to_end is not None


def test_a_rate_that_cannot_be_served_is_told_and_the_other_rows_are_kept(run: str) -> None:
    asked = ("--scenario", "server", "--rate", "1e6", "--batch-size", "1")
    result = invoke("profile", "--run", run, *asked, *QUICK)
    assert result.exit_code == 2
    assert "requests at 1e+06/s are beyond what can be served here" in result.stderr
    assert sorted(record.scenario for record in records() if record.status == "ok") == [
        "offline",
        "single_stream",
    ]


@needs_onnx
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_is_what_is_timed_and_is_tested_as_a_file(run: str, precision: str) -> None:
    """The file's predictions are as right as the profiled session's, to the last image."""
    exported = invoke("export", run, "--to", "onnx", "--precision", precision, "--batch-size", "16",
                      "--calibration-images", "32", "--out", "a.onnx")  # fmt: skip
    assert exported.exit_code == 0, exported.output
    told = json.loads(Path("a.onnx.json").read_text())
    assert told["files"][0]["name"] == "a.onnx"
    assert (told["quantization"] is not None) == (precision == "int8")
    result = invoke("evaluate", "a.onnx", "--json")
    assert result.exit_code == 0, result.output
    where = ("--runtime", "onnxruntime", "--precision", precision, "--batch-size", "16")
    invoke("profile", "--run", run, *where, "--calibration-images", "32", *QUICK)
    (record,) = records()
    assert record.accuracy is not None
    accuracy = json.loads(result.stdout)["accuracy"]
    assert accuracy["top1_correct"] == record.accuracy.top1_correct
    assert accuracy["top5_correct"] == record.accuracy.top5_correct
    again = invoke("export", run, "--to", "onnx", "--out", "a.onnx")
    assert (again.exit_code, "nothing is overwritten" in again.stderr) == (2, True)
    Path("a.onnx").write_bytes(Path("a.onnx").read_bytes() + b"\0")
    changed = invoke("evaluate", "a.onnx")
    assert (changed.exit_code, "SHA-256 is not the record's" in changed.stderr) == (2, True)
    Path("a.onnx.json").unlink()
    alone = invoke("evaluate", "a.onnx")
    assert (alone.exit_code, "has no record beside it: give --dataset" in alone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "tflite"), "unknown kind of artefact 'tflite'"),
        (("--to", "pt2", "--precision", "bf16"), "unknown precision to export in 'bf16'"),
        (("--to", "pt2", "--out", "a.onnx"), "a.onnx is not named .pt2"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    arguments: tuple[str, ...], said: str, run: str
) -> None:
    result = invoke("export", run, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(Path().glob("exports/*"))


def test_an_export_that_fails_leaves_nothing(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        Path("exports").mkdir(exist_ok=True)
        (Path("exports") / "half.pt2").touch()
        raise UserError("No space left on device")

    monkeypatch.setattr("bench.execute.deploy.artifacts._record", fail)
    result = invoke("export", run, "--to", "pt2", "--out", "exports/half.pt2")
    assert result.exit_code == 2
    assert not Path("exports/half.pt2").exists()


def test_a_data_set_with_other_classes_than_the_weights_is_refused() -> None:
    own = deployed.dataset(num_train=12, num_test=12)
    model = ModelSpec(name="tiny", num_classes=6, image_size=8)
    check_fits(model, own, own.classes)
    with pytest.raises(UserError, match="colours has 6 classes, the weights have 7"):
        check_fits(model.model_copy(update={"num_classes": 7}), own, None)
    with pytest.raises(UserError, match="other classes than those the weights were trained for"):
        check_fits(model, own, (*own.classes[:-1], "pink"))
    with pytest.raises(UserError, match="are 8×8, the model is made ready for 224×224"):
        check_fits(model.model_copy(update={"image_size": 224}), own, None)


def test_an_experiments_profile_is_of_the_trained_weights(run: str, tmp_path: Path) -> None:
    """What ``run`` profiles are the weights of its runs, tested on the runs' own test set."""
    record = record_of(run)
    spec = ProfileSpec(
        models=(record.spec.model,),
        batch_sizes=(8,),
        timing=QUICK_TIMING,
        memory=False,
        breakdown=False,
    )
    test = TestSpec(data=record.spec.data, recipe=record.spec.recipe)
    job = ProfileJob(
        spec,
        run_ids=((record.spec.model, Path(run).name),),
        weights=((record.spec.model, f"{run}/weights.safetensors"),),
        test=test,
        out=tmp_path / "runs/profiles",
    )
    do(job, lambda event: None)
    (found,) = records("runs/profiles")
    assert record.test is not None
    assert found.accuracy is not None
    assert found.accuracy.top1_correct == record.test.top1_correct
    assert found.run_id == Path(run).name
