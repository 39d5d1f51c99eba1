"""The commands that list, and the command line as a whole."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import senet
from bench.cli.app import app
from bench.data import DATASETS
from bench.spec.recipe import RECIPES


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_models_lists_parameters_and_macs_of_every_model_with_both_stems() -> None:
    rows = json.loads(output("models", "--json"))
    assert len(rows) == 2 * len(senet.MODELS)
    found = {(row["model"], row["stem"]): (row["params"], row["macs"]) for row in rows}
    assert found["se_resnet50", "cifar"] == (26_051_834, 1_300_344_832)
    assert found["resnet50", "imagenet"] == (23_528_522, 83_431_424)
    assert found["resnet101", "cifar"] == (42_512_970, 2_509_983_744)
    assert all(row["flops"] == 2 * row["macs"] for row in rows)


def test_models_as_a_table_shows_the_same_numbers() -> None:
    text = output("models")
    assert "26,051,834" in text
    assert "1,300,344,832" in text


def test_recipes_lists_every_hyper_parameter() -> None:
    assert json.loads(output("recipes", "--json")) == [
        recipe.model_dump(mode="json") for recipe in RECIPES.values()
    ]
    text = output("recipes")
    assert all(name in text for name in (*RECIPES, "weight_decay", "0.0005", "30, 60, 90"))


def test_datasets_says_what_each_is() -> None:
    rows = json.loads(output("datasets", "--json"))
    assert [row["dataset"] for row in rows] == list(DATASETS)
    assert {"cifar10", "cifar100", "folder", "shapes"} <= set(DATASETS)
    assert all(row["what"] for row in rows)


def test_doctor_names_devices_versions_and_threads() -> None:
    found = json.loads(output("doctor", "--json"))
    assert "cpu" in found["devices"]
    assert found["environment"]["packages"]["torch"]
    assert found["environment"]["num_threads"] >= 1
    text = output("doctor")
    assert all(word in text for word in ("device cpu", "threads", "versions", "noise"))


def test_doctor_says_how_to_get_a_missing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = json.loads(output("doctor", "--json"))["missing"]
    (compiler,) = (item for item in missing if item["for"] == "runtime compile")
    assert "apt install g++" in compiler["get"] or "triton" in compiler["get"]


@pytest.mark.parametrize(
    "command",
    ["run", "train", "evaluate", "profile", "report", "models", "datasets", "recipes", "doctor"],
)
def test_every_command_explains_itself(command: str) -> None:
    assert command in output("--help")
    assert "Usage" in output(command, "--help")


def test_python_m_bench_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "senet-bench 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("fly",), "No such command 'fly'"),
        (("--colour", "red"), "No such option: --colour"),
        (("train", "resnet18", "--colour", "red"), "No such option: --colour"),
        (("show",), "Missing argument"),
        (("train", "resnet18", "--epochs", "x"), "'--epochs'"),
        (("profile", "resnet18", "--repeat", "0"), "'--repeat'"),
        (("profile", "resnet18", "--price-per-hour"), "'--price-per-hour' requires an argument"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(arguments: tuple[str, ...], problem: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    helped = f"{arguments[0]} --help)" if arguments[0] in ("train", "profile") else "--help)"
    assert line.endswith(helped)


def test_no_arguments_at_all_print_the_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output
