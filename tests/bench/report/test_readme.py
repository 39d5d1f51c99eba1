"""The README's numbers and definitions come from records and from the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.report.contents import MAIN_COLUMNS
from bench.report.readme import definitions, replace
from bench.report.table import COLUMNS

README = Path(__file__).parents[3] / "README.md"


def test_only_the_marked_place_is_replaced() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert replace(text, "x", "new", README) == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"


def test_a_readme_without_the_place_is_refused() -> None:
    with pytest.raises(UserError, match="has no place for it: <!-- y:begin -->"):
        replace("nothing", "y", "new", README)


@pytest.mark.parametrize("columns", [MAIN_COLUMNS, COLUMNS])
def test_the_readme_defines_every_column_as_the_code_does(columns: dict[str, str]) -> None:
    assert definitions(columns) in README.read_text(encoding="utf-8")


def test_the_readme_names_only_commands_that_exist() -> None:
    import re

    from bench.cli.app import app

    known = {str(command.callback.__name__) for command in app.registered_commands}  # type: ignore[union-attr]
    named = set(re.findall(r"senet-bench ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named - {"trains"} <= known
