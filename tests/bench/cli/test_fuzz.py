"""Whatever is typed or stands in a file: an answer, or one line that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import record_factory as make
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import data
from bench.cli.app import app
from bench.errors import UserError
from bench.execute import evaluate_weights, sittings, train_run
from bench.measure import profile
from bench.record import failure, read_write
from bench.spec.experiment import Experiment, load_experiment, parse_experiment
from bench.spec.run import DataSpec

MANY = settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COMMANDS = ("run", "train", "evaluate", "profile", "report", "compare")
VALUES = (
    *("", "0", "1", "2", "-1", "3.5", "1e400", "nan", "inf", "10" * 30, "0x10", "1,2", ",", "--"),
    *("none", "auto", "cpu", "cuda", "cuda:99", "mps", "fp32", "tf32", "eager", "compile", "plain"),
    *("resnet18", "se_resnet50", "resnet18:", "shapes", "folder", "quick", "cifar", "imagenet"),
    *("lr=0.1", "lr=", "=", "name=x", "epochs=x", "quickstart", "mine.toml", "a b", "é", "\udcff"),
    *("[red]", "\n", "\t", "'", "%s", "{}", ".", "..", "...", "~", "-h", "-", "5%", "torchvision:"),
)
VALUE = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(exclude_characters="\0/\\", exclude_categories=["Cs"]), max_size=8),
)


def option_names() -> dict[str, list[str]]:
    """Return the options of every command, the ones that print help or open windows left out."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    return {
        name: [
            option
            for parameter in group.commands[name].params
            for option in parameter.opts
            if option.startswith("--")
        ]
        for name in COMMANDS
    }


OPTIONS = option_names()


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command with arguments and options, most of them known, their values odd."""
    command = draw(st.sampled_from(COMMANDS))
    arguments = draw(st.lists(VALUE, max_size=2))
    options = draw(st.lists(st.sampled_from(OPTIONS[command]) | VALUE, max_size=3))
    for option in options:
        arguments += [option, *draw(st.lists(VALUE, max_size=1))]
    return [command, *arguments]


class Accepted(UserError):
    """What would be done next takes long: everything was accepted."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty working folder of commands that stop where the work would begin."""
    small = data.load(DataSpec(name="shapes", train_limit=200, test_limit=20))

    def stop(*_: Any, **__: Any) -> None:
        raise Accepted("accepted")

    monkeypatch.setattr(train_run, "load_data", lambda *_: (small, 0.0))
    monkeypatch.setattr(train_run, "train_run", stop)
    monkeypatch.setattr(profile, "profile", stop)
    monkeypatch.setattr(sittings, "profile_now", stop)
    monkeypatch.setattr("bench.execute.experiment._trained", stop)
    monkeypatch.setattr(evaluate_weights, "_predict", stop)
    folder = tmp_path / "around" / "here"  # so that nothing is above it either
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@MANY
@given(arguments=command_lines())
def test_any_command_line_is_answered_in_words_and_leaves_nothing(
    here: Path, arguments: list[str]
) -> None:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2), (arguments, result.output)
    assert "Traceback" not in result.output
    assert [*here.parent.rglob("*")] == [here], arguments


def test_the_fuzzed_commands_can_be_accepted(here: Path) -> None:
    """The control of the test above: not everything is refused at the door."""
    for arguments in (["train", "resnet18"], ["run", "quickstart"], ["profile", "resnet18"]):
        result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
        assert "accepted" in result.stderr, (arguments, result.output)


VALID = """
name = "mine"
models = ["se_resnet18", { name = "resnet34", stem = "imagenet" }]
stems = ["cifar"]
seeds = [0, 1]
[data]
name = "cifar100"
[recipe]
base = "standard"
epochs = 30
[profile]
batch_sizes = [1, 128]
timing = { max_s = 4.0 }
"""
PARTS = (
    *("name", "models", "stems", "seeds", "data", "recipe", "profile", "base", "epochs", "timing"),
    *("=", "[", "]", "{", "}", "[[", '"', "'''", ".", ",", "\n", "#", "\x00", "\ufeff", "\\u0000"),
    *("1", "-1", "1e999", "nan", "inf", "true", "1979-05-27", "99999999999999999999", '""', "[]"),
    *('"resnet18"', '"x"', "{}", '{ name = "x" }', "lr", "milestones", "batch_sizes", "null"),
)


def spoilt(valid: str) -> st.SearchStrategy[str]:
    """Draw a text in which some stretches are replaced by odd parts."""
    cut = st.tuples(
        st.integers(0, len(valid)), st.integers(0, 12), st.sampled_from(PARTS) | st.text(max_size=6)
    )

    def apply(cuts: list[tuple[int, int, str]]) -> str:
        text = valid
        for begin, length, part in cuts:
            text = text[:begin] + part + text[begin + length :]
        return text

    return st.lists(cut, min_size=1, max_size=4).map(apply)


def one_line(error: ValueError, begins: str = "") -> None:
    assert str(error).strip()
    assert str(error).startswith(begins)
    assert "\n" not in str(error), str(error)


@MANY
@given(text=spoilt(VALID) | st.text(max_size=60))
def test_any_toml_is_an_experiment_or_refused_in_one_line(text: str) -> None:
    try:
        found = parse_experiment(text, "mine.toml")
    except UserError as error:
        one_line(error, begins="mine.toml")
    else:
        assert isinstance(found, Experiment)
        assert found.entries()


@MANY
@given(content=st.binary(max_size=60) | spoilt(VALID).map(lambda t: t.encode("utf-16")))
def test_any_bytes_as_an_experiment_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_experiment(str(path))
    one_line(caught.value)


RUN = read_write.to_json(make.run_record())
SHORT = json.dumps(json.loads(RUN), separators=(",", ":"))
FAILURE = json.dumps(
    {
        "kind": "failure",
        "schema_version": 1,
        "id": "x",
        "reason": "y",
        "created_at": "z",
        "wall_s": 1.0,
        "last_lines": ["a"],
    }
)


@MANY
@given(
    content=spoilt(SHORT).map(lambda t: t.encode("utf-8", "surrogatepass"))
    | st.integers(0, len(RUN)).map(lambda end: RUN.encode()[:end])
    | st.binary(max_size=60)
)
def test_any_bytes_are_a_record_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    try:
        found = read_write.read_record(path)
    except ValueError as error:
        one_line(error)
    else:
        assert read_write.from_json(read_write.to_json(found)) == found


@MANY
@given(content=spoilt(FAILURE).map(lambda t: t.encode("utf-8", "surrogatepass")) | st.binary())
def test_any_bytes_are_a_failure_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "failure-1.json"
    path.write_bytes(content)
    try:
        found = failure.read_failure(path)
    except ValueError as error:
        one_line(error)
    else:
        assert found.kind == "failure"
