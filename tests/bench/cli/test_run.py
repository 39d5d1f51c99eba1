"""``senet-bench run`` from a TOML file to a report."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import tiny_cell
from typer.testing import CliRunner

import senet
from bench.cli.app import app
from bench.cli.options.arguments import seed_list
from bench.errors import UserError
from bench.execute import process
from bench.execute.launch.launchers import chosen_launcher, open_launcher
from bench.spec.experiment import parse_experiment

EXPERIMENT = """
name = "mine"
models = ["tiny", { name = "tiny", stem = "cifar" }]
device = "cpu"

[data]
name = "shapes"
train_limit = 64
test_limit = 40

[recipe]
base = "quick"
epochs = 1
batch_size = 32

[profile]
batch_sizes = [1, 4]
timing = { min_blocks = 3, block_s = 0.01, max_s = 0.2, max_warmup_s = 0.1, single_stream_s = 0.1 }
"""


ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder, with cells that know the tiny model too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(process, "COMMAND", (sys.executable, tiny_cell.__file__))
    return tmp_path


def test_an_experiment_is_trained_profiled_and_reported(tiny_model: str, here: Path) -> None:
    (here / "mine.toml").write_text(EXPERIMENT)
    result = CliRunner().invoke(app, ["run", "mine.toml", "--seeds", "0,1"])
    assert result.exit_code == 0, result.output
    assert len(list((here / "runs" / "mine").glob("tiny-*/run.json"))) == 4
    profiles = set((here / "runs" / "mine" / "profiles").glob("*/*.json"))
    assert len(profiles) == 6  # two models; batch 1 offline and single-stream, batch 4 offline
    report = (here / "reports" / "mine" / "report.md").read_text()
    assert "tiny" in report
    rows = list(csv.DictReader((here / "reports" / "mine" / "results.csv").open()))
    assert {(row["model"], row["stem"]) for row in rows} == {
        ("tiny", "imagenet"),
        ("tiny", "cifar"),
    }
    assert all(float(row["throughput"]) > 0 for row in rows if row["scenario"] == "offline")
    assert {row["seeds"] for row in rows} == {"2"}
    assert list((here / "reports" / "mine").glob("*.svg"))
    again = CliRunner().invoke(app, ["run", "mine.toml", "--seeds", "2"])
    assert again.exit_code == 0, again.output
    assert again.stdout.count("(found finished, its images unchanged)") == 4
    assert set((here / "runs" / "mine" / "profiles").glob("*/*.json")) == profiles


def test_what_is_wrong_with_an_experiment_is_found_before_anything_runs(
    tiny_model: str, here: Path
) -> None:
    for change, word in [
        (("tiny", "vgg"), "unknown model 'vgg'"),
        (("batch_size = 32", "batch_size = 65"), "batch size 65"),
        (('device = "cpu"', 'device = "tpu"'), "unknown device 'tpu'"),
        (("epochs = 1", "epoch = 1"), "unknown key 'epoch'"),
        (("batch_sizes = [1, 4]", 'runtimes = ["jit"]'), "unknown runtime 'jit'"),
    ]:
        (here / "mine.toml").write_text(EXPERIMENT.replace(*change))
        result = CliRunner().invoke(app, ["run", "mine.toml"])
        assert result.exit_code == 2, result.output
        assert word in result.stderr
        assert [path.name for path in here.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("text", "seeds"), [("5", (0, 1, 2, 3, 4)), ("1", (0,)), ("0,1,7", (0, 1, 7))]
)
def test_seeds_are_told_as_a_number_or_one_by_one(text: str, seeds: tuple[int, ...]) -> None:
    assert seed_list(text) == seeds


@pytest.mark.parametrize("seconds", ["0.5", "-1", "inf", "nan", "1e12"])
def test_a_time_that_no_clock_can_wait_for_is_refused(seconds: str, here: Path) -> None:
    result = CliRunner().invoke(app, ["run", "mine.toml", "--timeout", seconds])
    assert result.exit_code == 2
    assert "--timeout" in result.stderr


@pytest.mark.parametrize("text", ["0", "-2", "", "two", "1;2"])
def test_seeds_that_are_no_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds takes"):
        seed_list(text)


def test_a_run_that_fails_leaves_exit_code_1_and_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXPERIMENT.replace('"tiny", { name = "tiny", stem = "cifar" }', '"crashing"')
    (here / "mine.toml").write_text(text)
    monkeypatch.setitem(senet.MODELS, "crashing", tiny_cell.MODELS["crashing"])
    arguments = ["run", "mine.toml", "--runs", "runs", "--timeout", "100"]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1, failed.output
    assert "RuntimeError: something broke" in failed.stderr
    assert "Repeat the command to do only what failed." in failed.stderr
    assert list((here / "runs").glob("crashing-*/failure-1.json"))


def test_seeds_are_added_and_the_same_command_goes_on(tiny_model: str, here: Path) -> None:
    """Forty images decide nothing: two looks, with three and four seeds, and why it stopped."""
    (here / "mine.toml").write_text(EXPERIMENT.partition("[profile]")[0])
    command = ["run", "mine.toml", "--resolve", "0.5", "--max-seeds", "4"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    text = " ".join(first.output.split())
    assert "look 1: 1 difference open; 6 trainings, to 3 seeds a model" in text
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert "found finished" in again.output
    report = (here / "reports" / "mine" / "report.md").read_text()
    assert "at most 4 a model" in report
    assert (here / "runs" / "mine" / "seeds.json").exists()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--resolve", "0"], "--resolve takes percentage points above 0 and up to 100, not 0"),
        (["--resolve", "nan"], "--resolve takes percentage points above 0 and up to 100"),
        (["--max-seeds", "5"], "--max-seeds is for --resolve"),
        (["--resolve", "1", "--max-seeds", "2"], "fewer than the 3 of a look; give 3 or more"),
        (["--on", "pbs"], "unknown launcher 'pbs'; choose from: here, slurm, ray"),
        (["--on", "slurm", "--set-launcher", "cluster"], "takes option=value"),
        (["--on", "slurm", "--set-launcher", "cluster=x"], "unknown cluster 'x'"),
    ],
)
def test_what_no_suite_can_be_asked_is_told_before_data_is_read(
    extra: list[str], told: str, tiny_model: str, here: Path
) -> None:
    (here / "mine.toml").write_text(EXPERIMENT)
    result = CliRunner().invoke(app, ["run", "mine.toml", *extra])
    assert result.exit_code == 2, result.output
    assert told in result.output.splitlines()[-1]
    assert "drawing" not in result.output
    assert not list(here.glob("runs/*/*"))


def test_the_file_says_who_does_the_jobs_and_the_command_line_overrules_it() -> None:
    table = {"on": "slurm", "partition": "gpu", "timeout_min": 60}
    assert chosen_launcher({}, None, []) == ("here", {})
    assert chosen_launcher(table, None, ["timeout_min=5"]) == (
        "slurm", {"partition": "gpu", "timeout_min": 5},
    )  # fmt: skip
    assert chosen_launcher(table, "ray", ["num_cpus=2"]) == ("ray", {"num_cpus": 2})
    with pytest.raises(UserError, match="partition needs on = slurm or ray"):
        chosen_launcher({"partition": "gpu"}, None, [])
    for text, told in (
        ('on = "slurm"\npartitoin = "gpu"', "unknown option of the slurm launcher 'partitoin'"),
        ('on = "pbs"', "unknown launcher 'pbs'; choose from: here, slurm, ray"),
        ("on = 3", "launcher.on: should be a string"),
    ):
        made = parse_experiment(f"{EXPERIMENT}\n[launcher]\n{text}", "mine.toml")
        with pytest.raises(UserError, match=told):
            open_launcher(*chosen_launcher(made.launcher, None, []), Path())
    with pytest.raises(UserError, match=r"launcher\.sub"):
        parse_experiment(f"{EXPERIMENT}\n[launcher]\nsub = [1]", "mine.toml")
