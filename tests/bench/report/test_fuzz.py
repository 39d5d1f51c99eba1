"""Whatever numbers and names stand in valid records, a report comes out."""

import json

import pytest
import record_factory as make
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.record.read_write import from_json
from bench.report.derive.findings import findings
from bench.report.page import html, markdown
from bench.report.page.contents import contents
from bench.report.page.tables import csv_table
from bench.report.read.load import load
from bench.report.read.study import study

ODD = (
    0,
    -1,
    1,
    2,
    0.5,
    3.7,
    10**18,
    1e308,
    1e-308,
    "",
    "x" * 300,
    "‮|=\n<b>",
    "../",
    None,
    [],
    True,
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Return a folder with three models, both stems, two seeds, and their texts."""
    folder = make.write_example(tmp_path_factory.mktemp("records"), num_test=40, seeds=2)
    return folder, {path: path.read_text() for path in sorted(folder.rglob("*.json"))}


def places(value, path=()):
    """Yield the path of every leaf and list, of lists only the first two items."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
        return
    yield path
    if isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from places(item, (*path, index))


def changed(text, choose):
    """Return the record with one place replaced by an odd value, when it is still valid."""
    record = json.loads(text)
    path = choose(st.sampled_from(sorted(places(record), key=str)))
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = choose(st.sampled_from(ODD))
    spoilt = json.dumps(record)
    try:
        from_json(spoilt)
    except ValueError:
        assume(False)
    return spoilt


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_odd_records_never_break_a_report(records, data):
    """Two records changed in one place each: everything but the charts is still written."""
    folder, texts = records
    chosen = data.draw(st.lists(st.sampled_from(list(texts)), min_size=2, max_size=2, unique=True))
    for path in chosen:
        path.write_text(changed(texts[path], data.draw))
    try:
        shown = study(load([folder]), price_per_hour=2.0)
        found = findings(shown, force=True)
        blocks = contents(found)
        assert markdown.render(blocks).startswith("# senet-bench report")
        assert "<script>" in html.page(found, blocks, {})
        assert csv_table.to_csv(shown).count("\n") > 1
    finally:
        for path in chosen:
            path.write_text(texts[path])
