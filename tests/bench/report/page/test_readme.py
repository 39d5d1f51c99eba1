"""The README's numbers and definitions come from records and from the code."""

from __future__ import annotations

from pathlib import Path

import pytest
import record_factory as make

from bench.errors import UserError
from bench.report.page.main_table import MAIN_DEFINITIONS
from bench.report.page.readme import column_definitions, fill, replace
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


def test_the_readme_names_only_commands_that_exist() -> None:
    import re

    from bench.cli.app import app

    known = {str(command.callback.__name__) for command in app.registered_commands}  # type: ignore[union-attr]
    named = set(re.findall(r"senet-bench ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named - {"trains"} <= known


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
