"""What the system refuses is told in one line, whichever command met it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main

LONG = "x" * 300
SHAPES = ("--dataset", "shapes")


def senet_bench(*arguments: str, here: Path, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder ``here``."""
    options = {"capture_output": True} if "stdout" not in how else {"stderr": subprocess.PIPE}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "bench", *arguments],
        cwd=here,
        text=True,
        check=False,
        timeout=120,
        **options | how,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{LONG}.toml"),
        ("run", "quickstart", "--out", LONG),
        ("run", "quickstart", "--runs", LONG),
        ("train", "resnet18", *SHAPES, "--out", LONG),
        ("train", "resnet18", *SHAPES, "--weights", LONG),
        ("train", "resnet18", *SHAPES, "--trace", LONG),
        ("train", "resnet18", "--dataset", "folder", "--data-dir", LONG),
        ("evaluate", LONG),
        ("profile", "resnet18", "--out", LONG),
        ("profile", "resnet18", "--weights", LONG),
        ("profile", "--run", LONG),
        ("report", LONG),
        ("compare", LONG, LONG),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-2][:12]}",
)
def test_a_name_that_no_file_system_has_is_an_error(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["senet-bench", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert LONG[:60] in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments",
    [("models",), ("models", "--json"), ("recipes",), ("datasets",), ("--help",), ("--version",)],
    ids=" ".join,
)
def test_an_output_that_is_full_is_an_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = senet_bench(*arguments, here=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("value", ["nonsense", "+nonsense", "dynamo,nonsense"])
def test_a_setting_that_torch_does_not_know_is_named(value: str, tmp_path: Path) -> None:
    done = senet_bench("doctor", here=tmp_path, env=os.environ | {"TORCH_LOGS": value})
    assert done.returncode == 2
    expected = f"error: torch does not know TORCH_LOGS={value}; unset it"
    assert done.stderr.strip().splitlines()[-1] == expected


def test_a_pipe_is_no_experiment(tmp_path: Path) -> None:
    """To read it would be to wait for ever."""
    os.mkfifo(tmp_path / "mine.toml")
    done = senet_bench("run", "mine.toml", here=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: cannot read mine.toml: it is no file\n")


def test_a_byte_order_mark_is_no_part_of_an_experiment(tmp_path: Path) -> None:
    text = 'name = "mine"\nmodels = ["nothing"]\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8-sig")
    done = senet_bench("run", "mine.toml", here=tmp_path)
    assert done.returncode == 2
    assert "unknown model 'nothing'" in done.stderr
