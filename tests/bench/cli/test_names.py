"""The shell completes names, and packages add models and data sets, from outside this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.options import names
from bench.data import DATASETS
from bench.spec.experiment import PRESETS

ROOT = Path(__file__).parents[3]
PACKAGE = """
import torch
from bench.data import Entry, Split, make_dataset

def small(*, stem, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, num_classes))

def load(spec, progress):
    split = Split(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    return make_dataset("dots", spec.label or "dots", split, split, ("a", "b"))

def fails(**options):
    raise KeyError("gone")

def no_net(**options):
    return 3

dots = Entry(load, "white dots on black", {"fine": 2})
"""
POINTS = """
[senet_bench.models]
mlp = theirs:small
broken_net = theirs:nothing
ends = ends:small
fails = theirs:fails
no_net = theirs:no_net

[senet_bench.datasets]
dots = theirs:dots
broken_set = not_there:anything
ends = ends:anything
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with a package as pip installs one, with good and broken entry points."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "theirs.py").write_text(PACKAGE)
    (tmp_path / "ends.py").write_text("import sys; sys.exit('no')")
    return tmp_path


def senet_bench(*arguments: str, package: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{package}", "COLUMNS": "100"},
        cwd=package,
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )


def test_what_a_package_adds_is_in_lists_help_errors_and_can_be_used(package: Path) -> None:
    assert "white dots on black" in senet_bench("datasets", package=package).stdout
    assert "mlp" in senet_bench("models", "ml*", package=package).stdout
    told = senet_bench("train", "--help", package=package).stdout
    assert "Added by packages: broken_net, ends, fails, mlp, no_net." in " ".join(
        told.replace("│", " ").split()
    )
    assert "Added by packages: broken_set, dots, ends." in " ".join(told.replace("│", " ").split())
    unknown = senet_bench("train", "nothing", "--dataset", "shapes", package=package)
    assert (unknown.returncode, "mlp" in unknown.stderr) == (2, True)
    unknown = senet_bench("train", "mlp", "--dataset", "nothing", package=package)
    assert (unknown.returncode, "dots" in unknown.stderr) == (2, True)
    quick = ("--recipe", "quick", "--epochs", "1", "--batch-size", "4")
    done = senet_bench("train", "mlp", "--dataset", "dots", *quick, package=package)
    assert done.returncode == 0, done.stderr
    assert "mlp: test top-1 " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("broken_net", "--dataset", "shapes"), "model 'broken_net': its entry point"),
        (("mlp", "--dataset", "broken_set"), "dataset 'broken_set': its entry point"),
    ],
)
def test_a_broken_entry_point_is_named_in_one_line(
    arguments: tuple[str, ...], problem: str, package: Path
) -> None:
    found = senet_bench("train", *arguments, "--epochs", "1", package=package)
    assert found.returncode == 2
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert problem in line
    assert "Traceback" not in found.stderr
    assert "cannot be loaded" in senet_bench("datasets", package=package).stdout


def test_models_that_cannot_be_built_are_listed_with_their_reason(package: Path) -> None:
    """One that is asked for by its name is an error."""
    found = senet_bench("models", "*n*s", "*net", "mlp", "--json", package=package)
    assert found.returncode == 0, found.stderr
    rows = {row["model"]: row for row in json.loads(found.stdout)}
    assert rows["mlp"]["params"] == 30730
    for name, told in {
        "broken_net": "'theirs:nothing' cannot be loaded: AttributeError: ",
        "ends": "'ends:small' cannot be loaded: SystemExit: no",
        "no_net": "'theirs:no_net' cannot be loaded: it made no module but a int",
    }.items():
        assert told in rows[name]["problem"]
    asked = senet_bench("models", "fails", package=package)
    assert (asked.returncode, asked.stderr) == (
        2,
        "error: model 'fails': its entry point 'theirs:fails' cannot be loaded: KeyError: 'gone'\n",
    )
    every = senet_bench("models", package=package)
    assert every.returncode == 0
    assert "KeyError" in every.stdout


def test_the_shell_completes_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("runs/resnet18-a", "runs/suite/resnet34-b"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").touch()
    (tmp_path / "mine.toml").touch()
    assert names.models("se_resnet1")[:3] == ["se_resnet18", "se_resnet101", "se_resnet152"]
    assert names.models_or_presets("m") == ["matched", "mine.toml"]
    assert set(PRESETS) <= set(names.models_or_presets(""))
    assert names.datasets("cifar") == ["cifar10", "cifar100"]
    assert tuple(DATASETS) == names.DATASETS
    assert names.recipes("st") == ["standard"]
    assert names.runs("") == ["runs/resnet18-a", "runs/suite/resnet34-b"]
    assert names.models_or_runs("runs/r") == ["runs/resnet18-a"]


def test_completion_asks_for_no_torch() -> None:
    """It is waited for at every key; the shell asks the command itself, so do we."""
    code = (
        "import sys\nfrom bench.cli.options import names\n"
        "names.models_or_presets(''), names.models_or_runs(''), names.datasets('')\n"
        "names.recipes('')\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
    asked = {"_SENET_BENCH_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    asked["COMP_WORDS"] = "senet-bench run quick"
    code = "from bench.cli.app import app; app(prog_name='senet-bench')"
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=ROOT,
        env=os.environ | asked,
        text=True,
        capture_output=True,
    )
    assert found.stdout.split() == ["quickstart"]


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="only Linux has files that never end")
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.onnx", "x.pt2", "x.toml", "x.py"])
def test_a_file_of_the_system_that_is_waited_for_is_refused_at_once(
    tmp_path: Path, name: str
) -> None:
    """It says that it is a file of no bytes, and a reader waits for ever for the first."""
    file = tmp_path / name
    file.symlink_to("/proc/kmsg")
    commands = {
        ".toml": ["run", str(file), "--plan"],
        ".py": ["train", f"py:{file}:make", "--dataset", "shapes"],
    }
    tested = ["evaluate", str(file), "--dataset", "shapes"]
    found = CliRunner().invoke(app, commands.get(file.suffix, tested))
    assert found.exit_code == 2
    assert "empty" in found.output or "does not apply" in found.output
