"""The main table in a terminal of 80 columns."""

import io

import pytest
import record_factory as make
from rich.console import Console

from bench.report.console import summary
from bench.report.load import load
from bench.report.study import study


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return what is printed of an example, with a model beside it that was only profiled."""
    folder = make.write_example(tmp_path_factory.mktemp("records"), num_test=40)
    profile = make.profile_record(make.model("resnet152"))
    path = folder / "profiled.json"
    path.write_text(profile.model_dump_json())
    found = study(load([folder]))
    assert any(row.model.name == "resnet152" for row in found.costs)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(summary(found))
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
