"""Names from records are shown, never obeyed."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import escape


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- x --><?php", r"<\!-- x -->&lt;?php"),
        ("&lt;b> &#60;b>", r"&amp;lt;b> &\#60;b>"),
        ("> 99 %", r"\> 99 %"),
        ("p < 0.001 & more", "p < 0.001 & more"),
        ("se_resnet50", "se_resnet50"),
        ("_loud_", r"\_loud\_"),
        ("[x](http://e)", r"\[x\](http://e)"),
        ("back\\slash|", "back\\\\slash\\|"),
    ],
)
def test_markdown_shows_markup_literally(name, shown):
    """A name is one line whose markup is escaped."""
    assert escape.markdown(name) == shown


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"])
def test_csv_defuses_formulas(name):
    """What a spreadsheet would run starts with an apostrophe instead."""
    assert escape.csv_cell(name).startswith("'")


@given(st.text())
def test_csv_cells_survive_a_round_trip_on_one_line(name):
    """A cell never breaks its row and never starts a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([escape.csv_cell(name), "end"])
    assert list(csv.reader(io.StringIO(text.getvalue()))) == [[escape.csv_cell(name), "end"]]
    assert not escape.csv_cell(name).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@given(st.text(), st.text())
def test_file_names_stay_in_their_folder_and_apart(first, second):
    """No separator, no leading dot, never empty; two texts give two names."""
    name = escape.file_name(first)
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert not name.startswith((".", "-"))
    if first != second:
        assert name != escape.file_name(second)


def test_plain_text_keeps_its_file_name():
    """A lower-case word needs no hash."""
    assert escape.file_name("cifar10") == "cifar10"
    assert escape.file_name("../../etc/passwd").startswith("etc-passwd-")


def test_charts_do_not_start_formulas():
    """A dollar sign is a dollar sign, and long names are cut."""
    assert escape.chart("$x$") == r"\$x\$"
    assert len(escape.chart("n" * 100)) == 40
