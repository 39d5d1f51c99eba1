"""The main table in a terminal of 80 columns."""

import io

import numpy as np
import pytest
import record_factory as make
from rich.console import Console

from bench.report.derive.findings import findings
from bench.report.page import terminal
from bench.report.page.blocks import table
from bench.report.page.tables.main_table import lettered, main_notes, narrow_table
from bench.report.page.verdict import lines
from bench.report.read.load import load
from bench.report.read.study import study


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return what is printed of an example, with a model beside it that was only profiled."""
    folder = make.write_example(tmp_path_factory.mktemp("records"), num_test=40)
    profile = make.profile_record(make.model("resnet152"))
    path = folder / "profiled.json"
    path.write_text(profile.model_dump_json())
    found = study(load([folder]))
    assert any(row.model.name == "resnet152" for row in found.costs)
    return screen_of(found)


def screen_of(found):
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(terminal.render(narrow_table(found)))
    return console.export_text()


def test_names_of_models_are_not_broken(shown):
    """A name that is spread over lines letter by letter cannot be read."""
    for name in ("resnet50", "se_resnet50", "resnet152"):
        assert f" {name} " in shown


def test_what_a_row_lacks_is_no_difference_between_rows(shown):
    """All trained rows share the data set: it stands in the title, not in a column."""
    title, heading = shown.splitlines()[0], shown.splitlines()[2]
    assert "data " in title
    assert " data " not in heading


def test_a_column_more_breaks_no_name(tmp_path):
    """One model with one seed and another with three: the numbers of seeds have a column."""
    plain, se = make.model("resnet101", "imagenet"), make.model("se_resnet50", "imagenet")
    make.write_run(tmp_path / "plain", np.ones(1000), spec=plain)
    for seed in range(3):
        make.write_run(tmp_path / f"se{seed}", np.ones(1000), spec=se, seed=seed)
    for spec in (plain, se):
        for scenario, batch_size in (("offline", 64), ("single_stream", 1)):
            profile = make.profile_record(spec, scenario=scenario, batch_size=batch_size)
            make.write_profile(tmp_path / f"profiles-{batch_size}", profile)
    shown = screen_of(study(load([tmp_path])))
    assert " seeds " in shown
    assert " se_resnet50 imagenet 3 " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_markup_in_a_cell_is_shown_and_nothing_moves_the_cursor():
    """A model may be called anything; a table of it is text."""
    console = Console(width=80, file=io.StringIO(), record=True)
    cells = [["[red]a[/red]\x1b[2J", "1"]]
    console.print(terminal.render(table(("name", "n"), cells, title="[b]t", words=("name",))))
    out = console.export_text()
    assert "[red]a[/red] [2J" in out
    assert "[b]t" in out
    assert "\x1b" not in out


def test_the_terminal_says_the_lines_of_the_reports_verdict(tmp_path):
    """The same text, lead by lead, at most eight."""
    make.write_example(tmp_path, num_test=200, seeds=3)
    found = findings(study(load([tmp_path])))
    told = terminal.bullets(lines(found)).plain.strip().splitlines()
    assert told == [f"{lead} {text}" for lead, text in lines(found)]
    assert told[0].startswith("Scope, Shapes: ")
    assert len(told) <= 8


def test_what_disturbed_a_row_stands_below_the_table(tmp_path):
    """Two thirds of the cores were others': a mark in the row, the words below."""
    make.write_run(tmp_path / "a", [True] * 150 + [False] * 50)
    record = make.profile_record(warnings=("other work used about 65 % of the cores",))
    make.write_profile(tmp_path, record)
    found = study(load([tmp_path]))
    assert narrow_table(found).columns[-1] == "see"
    assert narrow_table(found).rows[0][-1] == "a b"
    told = "a  other work used about 65 % of the cores\nb  one sitting"
    assert lettered(main_notes(found)) == told
