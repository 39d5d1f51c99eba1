"""``senet-bench train`` and ``evaluate`` as a user runs them, on the embedded data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bench.cli.app import app
from bench.execute.run_folder import load_run

SMALL = ["--dataset", "shapes", "--train-limit", "64", "--test-limit", "40", "--device", "cpu"]
TRAIN = [*SMALL, "--recipe", "quick", "--epochs", "2", "--batch-size", "32"]


def senet_bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(result: Result, *words: str) -> None:
    """Assert that the command ended with one line about all the words, and exit code 2."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[-1]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "attention", "words"),
    [
        ("resnet20", "foo", ("unknown attention 'foo'", "none, se, eca, cbam")),
        ("se_resnet20", "reduction=64", ("reduction 64 exceeds the 16 channels", "1 to 16")),
        ("resnet20", "cbam,excitation=relu", ("excitation does not apply", "it applies to: se")),
        ("se_resnet20", "position=conv3x3", ("no bottlenecks", "it applies to: resnet50")),
        ("se_resnet20", "stages=(4)", ("has the stages 1 to 3, and no stage 4",)),
        ("se_resnet20", "squeeze=median", ("unknown squeeze 'median'", "avg, max, none")),
        ("eca_resnet20", "se", ("has attention eca, not se", "se_resnet20 has that")),
        ("resnet20", "ge_theta,extent=3", ("unknown extent 3", "0, 2, 4, 8")),
    ],
)
def test_an_attention_that_cannot_be_is_refused_with_what_can(
    name: str, attention: str, words: tuple[str, ...], here: Path
) -> None:
    refused(senet_bench("train", name, "--attention", attention, *TRAIN), *words)
    assert not list(here.glob("runs/*"))


def test_two_models_are_trained_tested_and_recorded(tiny_model: str, here: Path) -> None:
    result = senet_bench("train", tiny_model, "se_resnet18", *TRAIN)
    assert result.exit_code == 0, result.output
    folders = sorted(path.name for path in (here / "runs").iterdir())
    assert [name.split("-")[0] for name in folders] == ["se_resnet18", "tiny"]
    lines = result.stdout.splitlines()
    epochs = [line.split()[1] for line in lines if line.startswith("  epoch")]
    assert epochs == ["1/2", "2/2", "1/2", "2/2"]
    for folder in folders:
        record = load_run(here / "runs" / folder)
        assert record.test is not None
        shown = f"test top-1 {100 * record.test.top1:.2f} %"
        assert any(shown in line and folder in line for line in lines)


def test_resuming_with_another_recipe_says_that_it_begins_anew(tiny_model: str, here: Path) -> None:
    """The unfinished run is named and left as it is; continuing that one needs no word."""
    senet_bench("train", tiny_model, *TRAIN)
    (unfinished,) = (here / "runs").iterdir()
    (unfinished / "run.json").unlink()
    other = senet_bench("train", tiny_model, *TRAIN, "--lr", "0.01", "--resume")
    (note,) = [line for line in other.stderr.splitlines() if line.startswith("warning: ")]
    assert "lr=0.01" in note.split(" begins anew")[0]
    assert f"trained otherwise: runs/{unfinished.name}" in note
    same = senet_bench("train", tiny_model, *TRAIN, "--resume")
    assert same.exit_code == 0
    assert "warning: " not in same.stderr


def test_what_is_against_a_data_set_is_told_and_recorded(tiny_model: str, here: Path) -> None:
    """A test image that was trained on, by train and evaluate; the record says where it lies."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for split, number in (("train", 8), ("test", 2)):
            folder = here / "my data" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    seen = here / "my data" / "train" / "cat" / "0.png"
    (here / "my data" / "test" / "cat" / "0.png").write_bytes(seen.read_bytes())
    place = ("--dataset", "folder", "--data-dir", "my data", "--image-size", "8")
    options = (*place, "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--out", "my runs")
    trained = senet_bench("train", tiny_model, *options)
    assert trained.exit_code == 0, trained.output
    against = "1 of 4 test images are in the training split too"
    assert f"warning: {against}" in trained.stderr
    assert "Next: senet-bench report 'my runs'" in trained.stdout
    (folder,) = (here / "my runs").iterdir()
    record = load_run(folder)
    assert any(against in warning for warning in record.warnings)
    assert record.spec.data.data_dir == str(here / "my data")
    evaluated = senet_bench("evaluate", str(folder), "--json")
    assert f"warning: {against}" in evaluated.stderr
    assert json.loads(evaluated.stdout)["same_images"]


def test_repeating_the_command_finds_the_run_finished(tiny_model: str, here: Path) -> None:
    first = senet_bench("train", tiny_model, *TRAIN)
    again = senet_bench("train", tiny_model, *TRAIN)
    assert first.exit_code == again.exit_code == 0
    assert "(found finished, its images unchanged)" in again.stdout
    assert "epoch" not in again.stdout


def test_evaluate_of_a_run_prints_json_alone_with_the_recorded_accuracy(
    tiny_model: str, here: Path
) -> None:
    senet_bench("train", tiny_model, *TRAIN)
    (folder,) = (here / "runs").iterdir()
    result = senet_bench("evaluate", str(folder), "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    record = load_run(folder)
    assert record.test is not None
    assert found["accuracy"] == record.test.model_dump()
    assert (found["recorded_top1"], found["same_images"]) == (record.test.top1, True)


def test_weights_can_be_tested_and_trained_on_from_their_file(tiny_model: str, here: Path) -> None:
    senet_bench("train", "resnet18", *TRAIN)
    (folder,) = (here / "runs").iterdir()
    weights = str(folder / "weights.safetensors")
    evaluated = senet_bench("evaluate", weights, *SMALL[:2], *SMALL[4:], "--out", "loaded")
    assert evaluated.exit_code == 0, evaluated.output
    (loaded,) = (here / "loaded").iterdir()
    assert load_run(loaded).test == load_run(folder).test
    assert load_run(loaded).epochs == ()
    tuned = senet_bench("train", "resnet18", *TRAIN, "--weights", weights, "--out", "tuned")
    assert tuned.exit_code == 0, tuned.output
    (fine,) = (here / "tuned").iterdir()
    assert load_run(fine).epochs[0].loss < load_run(folder).epochs[0].loss


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vgg16"], ["unknown model 'vgg16'", "se_resnet50", "resnet101"]),
        (["resnet18", "--dataset", "mnist"], ["unknown dataset 'mnist'", "cifar10", "shapes"]),
        (["resnet18", "--recipe", "fast"], ["unknown recipe 'fast'", "reference, standard, quick"]),
        (["resnet18", "--device", "tpu"], ["unknown device 'tpu'", "auto, cpu, cuda"]),
        (
            ["resnet18", "--precision", "int8"],
            ["error: --precision: int8 is made of a trained network", "fp32, tf32, bf16, fp16"],
        ),
        (["resnet18", "--runtime", "jit"], ["unknown training runtime 'jit'", "eager"]),
        (["resnet18", "--stem", "vgg"], ["stem", "'cifar' or 'imagenet'"]),
        (["resnet18", "--epochs", "0"], ["error: --epochs: should be greater than 0 (got 0)"]),
        (["resnet18", "--lr", "-0.1"], ["error: --lr: should be greater than 0 (got -0.1)"]),
        (
            ["resnet18", "--batch-size", "0"],
            ["error: --batch-size: should be greater than 0 (got 0)"],
        ),
        (["resnet18", "--batch-size", "65"], ["batch size 65", "64 images"]),
        (["resnet18", "--seed", "-1"], ["seed"]),
        (["resnet18", "--reduction", "8"], ["resnet18 has no SE block"]),
        (["resnet18", "--resume", "--restart"], ["exclude each other"]),
        (["resnet18", "--weights", "none.pt"], ["weights file none.pt does not exist"]),
        (["resnet18", "--dataset", "folder", "--data-dir", "none"], ["none"]),
        (["resnet18", "--dataset", "folder"], ["--data-dir"]),
        (["resnet18", "--out", "/dev/null/runs"], ["cannot write to /dev/null/runs"]),
        (["resnet18", "--trace", "/dev/null/t/trace.json"], ["cannot write to /dev/null/t"]),
        (["resnet18", "resnet34", "--trace", "t.json"], ["--trace takes one model"]),
        (["resnet18", "--trace", "."], ["--trace: . is a folder"]),
        (["resnet18", "--seed", "4294967296"], ["error: --seed: should be less than 4294967296"]),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(
    arguments: list[str], words: list[str], here: Path
) -> None:
    given = SMALL if "--dataset" not in arguments else SMALL[2:]
    given = given if "--device" not in arguments else given[:-2]
    refused(senet_bench("train", *given, *arguments), *words)
    assert list(here.iterdir()) == []


def test_weights_of_another_architecture_are_refused(tiny_model: str, here: Path) -> None:
    senet_bench("train", "resnet18", *TRAIN)
    (folder,) = (here / "runs").iterdir()
    weights = str(folder / "weights.safetensors")
    refused(
        senet_bench("train", "resnet34", *TRAIN, "--weights", weights, "--out", "other"),
        "resnet34",
        "resnet18",
    )
    assert not (here / "other").exists()
    refused(
        senet_bench("train", "resnet18", "resnet34", *TRAIN, "--weights", weights),
        "--weights takes one model",
    )


def test_a_diverged_run_ends_with_exit_code_1(tiny_model: str, here: Path) -> None:
    result = senet_bench("train", tiny_model, *TRAIN, "--lr", "1e30")
    assert result.exit_code == 1
    assert "tiny: diverged: the training loss is" in result.stdout
    assert "Next:" not in result.stdout


def test_a_finished_run_is_not_traced_and_says_so(tiny_model: str, here: Path) -> None:
    senet_bench("train", tiny_model, *TRAIN)
    result = senet_bench("train", tiny_model, *TRAIN, "--trace", "trace.json")
    assert result.exit_code == 0
    assert "no trace: the run was finished before" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["weights file nowhere does not exist"]),
        (["."], ["holds no finished run (no run.json)"]),
        ([".", "--model", "resnet18"], ["is a run's folder: --model does not apply"]),
        ([".", "--labels", "coarse"], ["is a run's folder: --labels does not apply"]),
        ([".", "--image-size", "64"], ["is a run's folder: --image-size does not apply"]),
        ([".", "--se-bias"], ["is a run's folder: --se-bias does not apply"]),
        ([".", "--attention", "eca"], ["is a run's folder: --attention does not apply"]),
        ([".", "--data-label", "X"], ["is a run's folder: --data-label does not apply"]),
        (["none.pt", "--model", "resnet18", "--dataset", "shapes"], ["none.pt does not exist"]),
        (["torchvision:V9", "--model", "resnet18", "--dataset", "shapes"], ["V9"]),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    arguments: list[str], words: list[str], here: Path
) -> None:
    refused(senet_bench("evaluate", *arguments), *words)
