"""The README's numbers and definitions come from records and from the code."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from pathlib import Path

import pytest
import record_factory as make
import typer
from typer.testing import CliRunner

from bench.cli.app import app
from bench.errors import UserError
from bench.report.page.readme import column_definitions, fill, replace
from bench.report.page.tables.main_table import MAIN_DEFINITIONS
from bench.report.table.rows import DEFINITIONS

README = Path(__file__).parents[4] / "README.md"


def test_only_the_marked_place_is_replaced() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert replace(text, "x", "new", README) == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"


def test_a_readme_without_the_place_is_refused() -> None:
    with pytest.raises(UserError, match="has no place for it: <!-- y:begin -->"):
        replace("nothing", "y", "new", README)


def test_the_definitions_beside_the_code_are_those_of_the_code() -> None:
    """They are made by ``make readme-table``, never by hand."""
    assert (README.parent / "bench/report/COLUMNS.md").read_text("utf-8") == column_definitions()


def test_every_column_is_defined() -> None:
    for name, what in (MAIN_DEFINITIONS | DEFINITIONS).items():
        assert f"| {name} | {what}" in column_definitions().replace("\\_", "_")


def documented_commands() -> list[str]:
    """Return every command line of the documents and of --help, on one line each."""
    from bench.cli.app import app

    texts = [(README.parent / name).read_text("utf-8") for name in ("README.md", "bench/README.md")]
    texts += [str(command.help).replace("\n\n", "\n") for command in app.registered_commands]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    starts = re.compile(r"^\s*(?:Example: |# |torchrun .* )?(?:senet-bench|-m bench) ")
    found = [line.partition("#")[0] if not line.startswith("#") else line for line in lines]
    return [
        starts.sub("", line).strip() for line in found if starts.match(line) and "…" not in line
    ]


def test_every_documented_command_is_understood() -> None:
    """Its options exist and its values can be read; what it would do is tested elsewhere."""
    from typer.main import get_command

    from bench.cli.app import app

    group = get_command(app)
    commands = documented_commands()
    assert len(commands) > 30
    for line in commands:
        name, *arguments = shlex.split(line)
        command = group.commands[name]  # type: ignore[attr-defined]
        with contextlib.suppress(typer.Exit):
            assert command.make_context(name, arguments, parent=None) is not None, line


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    for name, longest in (("README.md", 200), ("bench/README.md", 200)):
        file = README.parent / name
        text = file.read_text("utf-8")
        assert text.count("\n") <= longest
        for link in re.findall(r"\]\(<?([^)>]+)>?\)", text):
            if not link.startswith(("http", "#")):
                assert (file.parent / link.replace("\\_", "_")).exists(), link


def test_the_action_uses_options_that_compare_has() -> None:
    """The composite action is the recipe for CI; an option it names must exist."""
    from typer.main import get_command

    from bench.cli.app import app

    action = (README.parent / ".github/actions/compare/action.yml").read_text("utf-8")
    compare = get_command(app).commands["compare"]  # type: ignore[attr-defined]
    known = {option for parameter in compare.params for option in parameter.opts}
    used = set(re.findall(r"(--[a-z-]+)", action.partition("-m bench compare")[2]))
    assert {"--measure", "--fail-on", "--github"} <= used <= known


def test_the_table_is_filled_in_and_linked_from_where_the_readme_lies(tmp_path: Path) -> None:
    """Each row names data, recipe, epochs, device, seeds and interval; the link is relative."""
    make.write_example(tmp_path / "records", num_test=100, seeds=2)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    fill(readme, [tmp_path / "records"], tmp_path / "reports" / "cpu" / "report.md")
    text = readme.read_text()
    assert "From [reports/cpu/report.md](<reports/cpu/report.md>), which has the rest." in text
    rows = [line for line in text.splitlines() if line.startswith("| se_resnet50 | cifar")]
    assert len(rows) == 1
    assert "| Shapes (5,000 + 100) | quick | 3 | cpu, fp32 | 2 | " in rows[0]
    fill(readme, [tmp_path / "records"], tmp_path / "reports" / "cpu" / "report.md")
    assert readme.read_text() == text


def test_a_readme_that_is_not_there_is_named(tmp_path: Path) -> None:
    make.write_run(tmp_path / "records")
    with pytest.raises(UserError, match=r"cannot read .*missing.md: No such file"):
        fill(tmp_path / "missing.md", [tmp_path / "records"])


def test_a_readme_without_the_place_is_told_before_a_report_is_written(tmp_path: Path) -> None:
    """As is one that is a pipe, which would be waited for for ever."""
    make.write_run(tmp_path / "records")
    bare, pipe = tmp_path / "README.md", tmp_path / "pipe"
    bare.write_text("nothing")
    os.mkfifo(pipe)
    for readme, why in ((bare, "has no place for it"), (pipe, "no regular file")):
        arguments = ["report", tmp_path / "records", "--out", tmp_path / "out", "--readme", readme]
        found = CliRunner().invoke(app, list(map(str, arguments)))
        assert (found.exit_code, why in found.output) == (2, True)
    assert not (tmp_path / "out").exists()
