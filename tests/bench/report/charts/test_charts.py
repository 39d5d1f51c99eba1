"""Charts: labels do not overlap, colours are told apart, the same model has the same colour."""

import colorsys
import itertools
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import record_factory as make
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.report.charts import draw as charts_module
from bench.report.charts.draw import charts
from bench.report.charts.label_places import spread
from bench.report.charts.palette import COLOURS, OTHERS, colours
from bench.report.charts.scatter import MAX_LABELS, scatter
from bench.report.derive.findings import findings
from bench.report.derive.speed.axes import Axis
from bench.report.read.load import load
from bench.report.read.study import study
from bench.report.read.trained import Measured
from bench.stats.times import Interval


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = make.write_example(tmp_path_factory.mktemp("records"), num_test=500)
    return findings(study(load([folder])))


@pytest.fixture(scope="module")
def figures(found):
    """Return every drawn figure by chart name."""
    kept: list[Figure] = []
    original = charts_module._saved

    def saved(figure, ending):
        kept.append(figure)
        return original(figure, ending)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts_module, "_saved", saved)
        drawn = charts(found)
    for figure in kept[::2]:
        figure.canvas.draw()
    return dict(zip([c.name for c in drawn], kept[::2], strict=True))


NAMES = (
    "accuracy-throughput",
    "accuracy-latency",
    "accuracy-macs",
    "accuracy-params",
    "accuracy-training-time",
    "learning-curves",
    "time-to-accuracy",
    "confusion",
    "attention-gains",
    "attention-gain-time",
    "differences",
    "attribution",
)


def visible_texts(figure: Figure) -> list[Text]:
    """Return the texts that are drawn: not those of ticks beyond the end of their axis."""
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    texts = figure.findobj(Text)
    return [t for t in texts if t.get_visible() and t.get_text().strip() and t not in beyond]


def test_every_kind_of_chart_is_drawn(figures):
    """Accuracy against each cost, curves, confusion, differences and effects."""
    assert tuple(figures) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_two_texts_overlap(figures, name):
    """Labels, ticks and titles of a chart share no pixel."""
    texts = visible_texts(figures[name])
    shown = [(text, extent(text)) for text in texts]
    assert len(shown) > 6
    for (one, a), (two, b) in itertools.combinations(shown, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # The boxes of two turned words cross where neither has a letter.
        turned = one.get_rotation() % 90 and two.get_rotation() % 90
        assert min(overlap) <= 1 or turned, (one.get_text(), two.get_text(), overlap)


def extent(text: Text):
    """Return the box of the words alone; an annotation's own would include its line."""
    return Text.get_window_extent(text)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_at_the_edge(figures, name):
    """Every text lies wholly on the page."""
    figure = figures[name]
    for text in visible_texts(figure):
        box = extent(text)
        assert box.x0 >= -1, text.get_text()
        assert box.x1 <= figure.bbox.x1 + 1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.y1 <= figure.bbox.y1 + 1, text.get_text()


def test_wide_ranges_are_logarithmic_and_narrow_ones_are_not(figures, found):
    """MACs span a factor of 30: logarithmic. Parameters are equal here: linear."""
    assert figures["accuracy-macs"].axes[0].get_xscale() == "log"
    assert figures["accuracy-params"].axes[0].get_xscale() == "linear"


def test_drawing_changes_nothing_global(found):
    """matplotlib's settings are the same before and after."""
    before = dict(matplotlib.rcParams)
    charts(found)
    assert dict(matplotlib.rcParams) == before


def test_known_models_have_fixed_and_different_colours():
    """A model has one colour whoever stands beside it, and no two share one."""
    assert len(set(COLOURS.values())) == len(COLOURS) == 10
    assert colours(["resnet50"])["resnet50"] == colours(COLOURS)["resnet50"] == "#0072B2"


def test_unknown_models_get_colours_of_their_own():
    """Eight names nobody knows have eight colours; more than there are repeats."""
    names = [f"net{i}" for i in range(len(OTHERS))]
    assert len(set(colours(names).values())) == len(OTHERS)
    assert len(colours(names * 2 + ["one more"])) == len(OTHERS) + 1


# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}


def lab(colour: str, blindness: np.ndarray) -> np.ndarray:
    """Return CIELAB (D65) of a hex colour as an eye with this blindness sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(blindness @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_compared_models_are_told_apart_by_everybody(blindness):
    """The six models of the comparison differ by at least 10 ΔE (CIE 1976) for every eye."""
    names = [f"{se}resnet{d}" for se in ("", "se_") for d in (18, 50, 101)]
    seen = {name: lab(COLOURS[name], BLINDNESS[blindness]) for name in names}
    for one, two in itertools.combinations(names, 2):
        assert np.linalg.norm(seen[one] - seen[two]) >= 10, (one, two)


def test_colours_stand_out_from_white_paper():
    """No colour is lighter than 80 % of white's lightness."""
    for colour in (*COLOURS.values(), *OTHERS):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert colorsys.rgb_to_hls(red, green, blue)[1] < 0.8


def test_spread_keeps_order_distance_and_bounds():
    """Crowded positions move apart as little as the order allows."""
    placed = spread([10.0, 10.0, 11.0, 90.0], gap=5.0, low=0.0, high=100.0)
    assert placed == [10.0, 15.0, 20.0, 90.0]
    assert spread([99.0, 98.0, 97.0], gap=5.0, low=0.0, high=100.0) == [100.0, 95.0, 90.0]
    tight = spread([1.0] * 11, gap=50.0, low=0.0, high=100.0)
    assert sorted(tight) == pytest.approx([10.0 * i for i in range(11)])


def test_an_svg_holds_text_and_is_small(found):
    """Text as text can be searched and copied, and makes a file a tenth as large."""
    for chart in charts(found):
        assert b"<text" in chart.svg
        assert b"Verdana" in chart.svg
        assert len(chart.svg) <= 60_000, chart.name


def scattered(values: tuple[float, ...], name: str = "resnet18"):
    """Return the axes of a scatter of as many models as there are costs, and their texts."""
    cells = [
        SimpleNamespace(key=str(n), model=make.model(name), top1=Measured(0.9, 0.89, 0.91, "m"))
        for n in range(len(values))
    ]
    costs = {str(n): Interval(v, v, v, 1) for n, v in enumerate(values)}
    axis = Axis("macs", "MACs", "M", less_is_better=True, values=costs)
    figure = Figure()
    draw = scatter("title", axis, cells, {c.key: "name" for c in cells}, {name: "#1b9e77"})
    draw(figure)
    figure.canvas.draw()
    return figure.axes[0]


def test_costs_that_hardly_differ_are_drawn_near_each_other():
    """Ticks stand for themselves, and 0.005 % is no distance; what differs fills the axis."""
    near, far = scattered((40.551, 40.553)), scattered((40.0, 80.0))
    assert near.xaxis.get_offset_text().get_text() == ""
    low, high = near.get_xlim()
    assert 0.002 / (high - low) < 0.001
    low, high = far.get_xlim()
    assert 40 / (high - low) > 0.7


def test_models_of_points_without_a_name_are_in_a_legend():
    crowded = scattered(tuple(float(n) for n in range(1, MAX_LABELS + 2)))
    assert [text.get_text() for text in crowded.get_legend().get_texts()] == ["resnet18"]
    assert scattered((1.0, 2.0)).get_legend() is None
