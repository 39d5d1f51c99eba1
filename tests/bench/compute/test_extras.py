"""Without the optional packages: what needs one says so in one line, all else goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import record_factory as make
from typer.testing import CliRunner, Result

from bench.cli.app import app
from bench.machine import nvml

EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "parquet": ("pyarrow",),
    "nvml": ("pynvml",),
}


@pytest.fixture(autouse=True)
def _plain_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the packages of all extras, as if none of them were installed."""
    for modules in EXTRAS.values():
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nvml, "library", nvml.library.__wrapped__)  # another test may have had it


def senet_bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def test_they_are_hidden() -> None:
    """The control of the tests below."""
    for modules in EXTRAS.values():
        for module in modules:
            assert importlib.util.find_spec(module) is None
            with pytest.raises(ImportError):
                __import__(module)


EXPERIMENT = """
name = "mine"
models = ["resnet18"]
device = "cpu"
[data]
name = "shapes"
[profile]
runtimes = ["eager", "{runtime}"]
"""


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_is_refused_before_anything_is_done(
    runtime: str, extra: str
) -> None:
    Path("mine.toml").write_text(EXPERIMENT.format(runtime=runtime))
    missing = ", ".join(EXTRAS[extra])
    expected = f"error: runtime {runtime} needs {missing}: pip install 'senet-bench[{extra}]'"
    for command in (
        ["profile", "resnet18", "--device", "cpu", "--runtime", f"eager,{runtime}"],
        ["run", "mine.toml"],
    ):
        result = senet_bench(*command)
        assert (result.exit_code, result.stderr.strip()) == (2, expected)
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


def test_a_report_without_pyarrow_has_all_but_the_parquet_file() -> None:
    make.write_example(Path("records"), num_test=40)
    result = senet_bench("report", "records", "--out", "report")
    assert result.exit_code == 0, result.output
    names = {path.name for path in Path("report").iterdir()}
    assert {"report.md", "results.csv"} < names
    assert "results.parquet" not in names


def test_without_pynvml_there_is_no_energy_and_no_error() -> None:
    assert nvml.library() is None


def test_doctor_says_what_is_missing_and_how_to_get_it() -> None:
    result = senet_bench("doctor", "--json")
    assert result.exit_code == 0, result.output
    advice = {missing["get"] for missing in json.loads(result.stdout)["missing"]}
    assert advice >= {f"pip install 'senet-bench[{extra}]'" for extra in EXTRAS}
