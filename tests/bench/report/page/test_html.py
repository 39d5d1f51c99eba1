"""The page: self-contained, harmless, and usable in a real browser by mouse and by keyboard."""

import json
import os
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import record_factory as make
from headless import browser, find_browser

from bench.report.write import render


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return a rendered page of six models."""
    records = make.write_example(tmp_path_factory.mktemp("records"), num_test=400)
    out = tmp_path_factory.mktemp("out")
    render([records], out)
    return out / "report.html"


@pytest.fixture(scope="module")
def page(report):
    """Return a page in a real browser."""
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium or Chrome is installed (SENET_BENCH_BROWSER names one)")
    with browser(found) as opened:
        yield opened


def test_page_points_at_nothing_outside_itself(report):
    """No address but places in the page and inline images."""
    text = report.read_text()
    targets = re.findall(r'(?:src|href|action|srcset|data|poster)="([^"]*)"', text)
    assert targets
    assert all(t.startswith(("#", "data:image/svg+xml;base64,")) for t in targets)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_hostile_names_cannot_leave_their_place(tmp_path):
    """Neither the data nor a table cell can be ended by a name."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    make.write_run(
        tmp_path / "a",
        np.arange(100) < 80,
        spec=make.model(evil),
        data=make.dataset(label=evil, num_test=100),
    )
    render([tmp_path], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<script") == 2
    assert "<img src=x" not in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data)["points"][0]["label"] == evil


def test_page_draws_itself_without_a_request_or_an_error(page, report):
    """All six points are drawn; nothing is fetched; the policy has nothing to refuse."""
    page.open(report)
    assert page.evaluate("document.querySelectorAll('#chart g.point').length") == 6
    requests = [
        event["params"]["request"]["url"]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [u for u in requests if not u.startswith(("file:", "data:"))] == []
    assert [e for e in page.events if e.get("method") in ("Runtime.exceptionThrown",)] == []
    assert [e for e in page.events if e.get("method") == "Log.entryAdded"] == []
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "1280px"


def test_labels_of_the_chart_do_not_overlap(page, report):
    """No two labels share any pixel."""
    page.open(report)
    boxes = page.evaluate(
        "[...document.querySelectorAll('#chart .label')].map((n) => { const b = n.getBBox();"
        " return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
    )
    assert len(boxes) >= 5
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def first_cells(page, column):
    return page.evaluate(
        "[...document.querySelectorAll('#table-1 tbody tr:not([hidden])')]"
        f".map((row) => row.cells[{column}].textContent)"
    )


def test_tables_sort_by_number_and_back(page, report):
    """One click sorts MACs upwards, two downwards, three restores the report's order."""
    page.open(report)
    macs = 12  # its column, of those in sight the sixth
    before = first_cells(page, macs)
    button = f"document.querySelectorAll('#table-1 th button')[{macs}]"
    head = f"document.querySelectorAll('#table-1 th')[{macs}].getAttribute('aria-sort')"
    upwards = ["83.43", "85.95", "159.19", "1,297.83", "1,300.34", "2,509.98"]
    page.evaluate(f"{button}.click()")
    assert (first_cells(page, macs), page.evaluate(head)) == (upwards, "ascending")
    page.evaluate(f"{button}.click()")
    assert (first_cells(page, macs), page.evaluate(head)) == (upwards[::-1], "descending")
    page.evaluate(f"{button}.click()")
    assert (first_cells(page, macs), page.evaluate(head)) == (before, "none")


def test_tables_filter_by_words_typed(page, report):
    """Typing 'se_ cifar' leaves the one row with both words."""
    page.open(report)
    page.evaluate("document.getElementById('table-1-filter').focus()")
    for key in "se_ cifar":
        page.press(key)
    assert first_cells(page, 0) == ["se_resnet50"]
    assert page.evaluate("document.getElementById('table-1-shown').textContent") == "1 of 6 rows"


def test_axes_can_be_chosen(page, report):
    """With MACs across, the points stand in the order of their MACs."""
    page.open(report)
    page.evaluate(
        "(() => { const s = document.getElementById('x-axis'); s.value = 'macs';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    names = page.evaluate(
        "[...document.querySelectorAll('#chart g.point')].map((n) => n.ariaLabel.split(';')[0])"
    )
    assert names == [
        "resnet50, imagenet stem",
        "se_resnet50, imagenet stem",
        "resnet101, imagenet stem",
        "resnet50, cifar stem",
        "se_resnet50, cifar stem",
        "resnet101, cifar stem",
    ]
    assert "multiply-accumulates" in page.evaluate("document.getElementById('chart').textContent")


def test_hover_tells_the_values(page, report):
    """The mouse on a point shows its name, both values and the seeds."""
    page.open(report)
    assert page.evaluate("document.getElementById('tip').hidden") is True
    page.hover("#chart g.point")
    text = page.evaluate("document.getElementById('tip').innerText")
    assert text.startswith("resnet101, cifar stem\ntop-1 on the test set (%): ")
    assert "one seed, exploratory" in text


def test_everything_works_by_keyboard_alone(page, report):
    """Tab reaches theme, links, choices and points; arrows walk the points; Enter sorts."""
    page.open(report)
    reached = []
    for _ in range(40):
        page.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.getAttribute('class')"
                " || document.activeElement.tagName"
            )
        )
        if reached[-1] == "point":
            break
    assert {"skip", "theme", "x-axis", "y-axis", "data-set", "models", "point"} <= set(reached)
    named = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(named).startswith("resnet101, cifar stem; ")
    assert page.evaluate("document.getElementById('tip').hidden") is False
    page.press("ArrowRight")
    assert page.evaluate(named).startswith("resnet50, cifar stem; ") or page.evaluate(
        named
    ).startswith("se_resnet50, cifar stem; ")
    page.press("Escape")
    assert page.evaluate("document.getElementById('tip').hidden") is True
    page.evaluate("document.querySelector('#table-1 th button').focus()")
    page.press("Enter")
    order = "document.querySelector('#table-1 th').getAttribute('aria-sort')"
    assert page.evaluate(order) == "ascending"


def test_the_page_fits_a_phone(page, report):
    """At 360 pixels nothing but tables scrolls sideways, and the chart's text keeps its size."""
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.open(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = page.evaluate(
        "[...document.querySelectorAll('#chart text')]"
        ".map((n) => n.getBoundingClientRect()).map((b) => Math.min(b.width, b.height))"
    )
    assert min(heights) >= 5
    inside = page.evaluate(
        "(() => { const c = document.getElementById('chart').getBoundingClientRect();"
        " return [...document.querySelectorAll('#chart text')]"
        ".map((n) => n.getBoundingClientRect()).every((b) => b.left >= c.left - 1"
        " && b.right <= c.right + 1 && b.top >= c.top - 1 && b.bottom <= c.bottom + 1); })()"
    )
    page.call("Emulation.clearDeviceMetricsOverride")
    assert inside


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_follow_the_system_and_the_button(page, report, dark):
    """The ground is light or dark as the system says; the button turns it over."""
    page.open(report, dark=dark)
    ground = "getComputedStyle(document.body).backgroundColor"
    light, night = "rgb(255, 255, 255)", "rgb(21, 24, 29)"
    assert page.evaluate(ground) == (night if dark else light)
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(ground) == (light if dark else night)


def test_text_has_contrast_in_both_themes(page, report):
    """Running text has at least 7:1 against its ground (WCAG 2.2, criterion 1.4.6)."""
    for dark in (False, True):
        page.open(report, dark=dark)
        colours = page.evaluate(
            "['color', 'backgroundColor'].map((k) => getComputedStyle(document.body)[k])"
        )
        ink, ground = (luminance(c) for c in colours)
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 7


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour like ``rgb(21, 24, 29)``."""
    parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_answer_stands_first_and_eight_columns_are_in_sight(page, report):
    """Verdict, chart, table; the other columns are chosen, not scrolled to."""
    page.open(report)
    heads = page.evaluate("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert heads[:3] == ["Verdict", "Explore", "Results"]
    seen = (
        "[...document.querySelectorAll('#table-1 thead th')].filter((h) => h.offsetParent).length"
    )
    assert page.evaluate(seen) == 8
    page.evaluate("document.querySelector('.columns input:not(:checked)').click()")
    assert page.evaluate(seen) == 9
    box = "document.querySelector('#table-1').closest('.scroll')"
    assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth + 1")


def test_tab_goes_through_the_page_in_at_most_forty_stops(page, report):
    """Heads of tables and points of the chart are one stop each; arrow keys go on from there."""
    page.open(report)
    stops = 0
    while stops < 60:
        page.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        stops += 1
    assert 10 < stops <= 40
    page.evaluate("document.querySelector('#table-1 th button').focus()")
    page.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "stem"


def test_a_link_keeps_the_axes_and_the_row(page, report):
    """What was chosen stands in the address, and an address with it shows the same."""
    page.open(report)
    page.evaluate(
        "(() => { const s = document.getElementById('x-axis'); s.value = 'macs';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    page.evaluate("document.querySelector('#chart g.point').dispatchEvent(new Event('click'))")
    link = page.evaluate("location.hash")
    assert "x=macs" in link
    assert "y=top1" in link
    page.open(report)
    page.evaluate(f"location.hash = {json.dumps(link)}")
    page.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert page.evaluate("document.getElementById('x-axis').value") == "macs"
    chosen = "document.querySelector('#chart g.chosen').getAttribute('aria-label')"
    assert page.evaluate(chosen).startswith("resnet50, imagenet stem;")


def test_hover_names_conditions_and_record(page, report):
    """A point says where it was measured and which file says so."""
    page.open(report)
    page.hover("#chart g.point")
    text = page.evaluate("document.getElementById('tip').innerText")
    assert re.search(r"^on cpu.*, fp32, eager$", text, re.MULTILINE)
    assert re.search(r"^record: .*\.json", text, re.MULTILINE)


def test_on_paper_every_column_stands_within_the_page(page, report):
    """Nothing is cut off at the right, and what is closed is not printed.

    Data, recipe, epochs, training device and machine are alike in all rows: they stand above it.
    """
    size = {"width": 1032, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.open(report)
    page.call("Emulation.setEmulatedMedia", media="print")
    seen = page.evaluate(
        "[...document.querySelectorAll('#table-1 thead th')]"
        ".map((h) => h.getBoundingClientRect()).filter((b) => b.width && b.right <= 1032).length"
    )
    closed = page.evaluate("document.querySelector('details.part').getBoundingClientRect().height")
    page.call("Emulation.setEmulatedMedia", media="")
    page.call("Emulation.clearDeviceMetricsOverride")
    assert (seen, closed) == (18 - 5, 0)
    told = page.evaluate("document.querySelector('#table-1').closest('section').textContent")
    assert "The same in every row: data Shapes" in told


def test_axe_finds_no_serious_violation(page, report):
    """In both themes and on a phone, all opened; SENET_BENCH_AXE names a newer axe.min.js."""
    packaged = files("axe_core_python") / "axe.min.js"
    axe = Path(os.environ.get("SENET_BENCH_AXE") or str(packaged)).read_text("utf-8")
    for dark, width in ((False, 1400), (True, 1400), (False, 390)):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.open(report, dark=dark)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.call("Runtime.evaluate", expression=axe)
        found = page.evaluate(
            "axe.run().then((r) => r.violations.map((v) => [v.id, v.impact, v.nodes[0].html]))"
        )
        page.call("Emulation.clearDeviceMetricsOverride")
        assert [v for v in found if v[1] in ("serious", "critical")] == []
