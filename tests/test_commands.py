"""Every command in README, bench/README.md and the examples of --help is one that there is.

Each is read by the command line itself, with all of its options; nothing is carried out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from bench.cli.app import app
from bench.spec.experiment import PRESETS, load_experiment, parse_experiment

ROOT = Path(__file__).parents[1]
DOCS = ("README.md", "bench/README.md")
GROUP = get_command(app)
assert isinstance(GROUP, TyperGroup)


def in_docs(name: str) -> Iterator[str]:
    """Yield the commands of a document: in blocks, continued over lines, and in backticks."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```(?:bash|sh|toml)\n(.*?)```", text, re.DOTALL):
        yield from re.findall(r"^(?:# )?(senet-bench .+)$", block, re.MULTILINE)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"`(senet-bench [^`]+)`", prose)


def in_help() -> Iterator[str]:
    """Yield the examples of every command's help."""
    for name in GROUP.commands:
        told = GROUP.commands[name].help or ""
        yield from re.findall(r"(?:^|Example: )\s*(senet-bench .+?)$", told, re.MULTILINE)


def every() -> list[str]:
    return sorted({text.strip() for name in DOCS for text in in_docs(name)} | set(in_help()))


def parsed(text: str) -> None:
    """Let the command read its arguments; typer's errors pass through."""
    words = shlex.split(text, comments=True)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), None)]
    if words == ["--help"]:
        return
    command = GROUP.commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        recipe = context.params.get("source") or []
        for one in recipe if words[0] == "run" else []:
            if one in PRESETS or (ROOT / one).is_file():
                load_experiment(str(ROOT / one) if one not in PRESETS else one)


def test_there_are_commands_to_try() -> None:
    found = every()
    assert len(found) > 40
    assert {text.split()[1] for text in found} >= {"train", "run", "profile", "report", "watch"}


@pytest.mark.parametrize("text", every())
def test_a_command_that_is_shown_is_read_by_the_command_line(text: str) -> None:
    parsed(text)


@pytest.mark.parametrize("text", ["senet-bench train --no-such-option", "senet-bench watch a b"])
def test_a_command_that_is_none_is_found_out(text: str) -> None:
    with pytest.raises(typer.Exit) as left:
        parsed(text)
    assert left.value.exit_code == 2


def test_the_experiment_in_the_readme_is_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found = parse_experiment(example, "README.md")
    assert (found.data.name, len(found.entries())) == ("folder", 3)
