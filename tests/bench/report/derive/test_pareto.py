"""Fronts, their probabilities, and what to take at a budget."""

import numpy as np
import pytest
import record_factory as make
from hypothesis import given
from hypothesis import strategies as st

from bench.report.derive.findings import findings
from bench.report.derive.pareto import chance_of, round_budgets
from bench.report.derive.seeds import Stated
from bench.report.page.wording import choice_sentence
from bench.report.read.load import load
from bench.report.read.study import study
from bench.stats.pareto import on_front

N = 4000


def write(folder, name, share, call_s, shuffle=0):
    right = np.random.default_rng(shuffle).permutation(N) < share * N
    make.write_run(folder / "runs" / name, right, spec=make.model(name))
    single = make.profile_record(
        make.model(name), call_s=call_s, batch_size=1, scenario="single_stream"
    )
    make.write_profile(folder / "profiles", single)


def front_of(folder, name="latency", seed_sd=0.0005):
    result = findings(study(load([folder])), stated=Stated(seed_sd))
    return result, next(f for _, f in result.fronts if f.axis.name == name)


def test_front_known_answer():
    """Cheap and poor, dear and good are on it; dearer than one equally good is not."""
    top1, cost = np.array([0.7, 0.8, 0.8, 0.75]), np.array([1.0, 2.0, 3.0, 2.5])
    assert on_front(top1, cost).tolist() == [True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_front_is_what_the_definition_says(points):
    """A point is on the front exactly if no other dominates it; never is the front empty."""
    top1 = np.array([p[0] for p in points], float)
    cost = np.array([p[1] for p in points], float)
    member = on_front(top1, cost)
    assert member.any()
    for i, (a, c) in enumerate(points):
        beaten = any(x >= a and y <= c and (x, y) != (a, c) for x, y in points)
        assert member[i] == (not beaten)


def test_probabilities_follow_the_evidence(tmp_path):
    """A clear loser is almost never on the front, near ties share it, the cheapest always is."""
    write(tmp_path, "resnet18", 0.80, 0.001, shuffle=1)
    write(tmp_path, "resnet34", 0.85, 0.002, shuffle=2)
    write(tmp_path, "resnet50", 0.851, 0.003, shuffle=3)
    write(tmp_path, "resnet101", 0.70, 0.004, shuffle=4)
    _, front = front_of(tmp_path)
    places = {p.cell.model.name: p for p in front.places}
    assert places["resnet18"].probability == 1.0
    assert places["resnet34"].probability > 0.99
    assert 0.3 < places["resnet50"].probability < 0.8
    assert places["resnet101"].probability == 0.0
    assert [p.cell.model.name for p in front.places if p.on_front] == [
        "resnet18",
        "resnet34",
        "resnet50",
    ]


def test_points_per_percent_known_answer(tmp_path):
    """5 points for double the latency is 0.05 points for each per cent."""
    write(tmp_path, "resnet18", 0.80, 0.001)
    write(tmp_path, "resnet34", 0.85, 0.002)
    _, front = front_of(tmp_path)
    assert front.places[0].points_per_percent is None
    assert front.places[1].points_per_percent == pytest.approx(0.05, rel=0.02)


def test_what_to_take_at_a_budget(tmp_path):
    """At 1 ms only the small model fits; from 5 ms on the better one is taken."""
    write(tmp_path, "resnet18", 0.80, 0.0009)
    write(tmp_path, "resnet34", 0.85, 0.0024)
    result, front = front_of(tmp_path)
    assert [(c.budget, c.cell.model.name) for c in front.choices] == [
        (1.0, "resnet18"),
        (5.0, "resnet34"),
    ]
    text = choice_sentence(front, front.choices[1], result.labels)
    assert text == "up to 5 ms, take resnet34 (85.0 %; best within that with > 99 %)"


def test_more_throughput_is_better(tmp_path):
    """On the throughput axis the fast model comes first and the budget is a lower bound."""
    for name, share, call in (("resnet18", 0.8, 0.06), ("resnet34", 0.85, 0.6)):
        make.write_run(tmp_path / name, np.arange(N) < share * N, spec=make.model(name))
        make.write_profile(tmp_path / "p", make.profile_record(make.model(name), call_s=call))
    result, front = front_of(tmp_path, "throughput")
    assert [p.cell.model.name for p in front.places] == ["resnet18", "resnet34"]
    texts = [choice_sentence(front, c, result.labels) for c in front.choices]
    assert texts[0].startswith("at no less than 1,000 img/s, take resnet18")
    assert texts[1].startswith("at no less than 100 img/s, take resnet34")


def test_round_budgets_known_answer():
    """From 0.9 to 2.4 they are 0.5, 1, 2 and 5."""
    assert round_budgets([0.9, 2.4]) == pytest.approx([0.5, 1, 2, 5])
    assert round_budgets([10.0]) == pytest.approx([10.0])


def test_the_chance_of_a_choice_counts_whether_it_is_within_the_budget() -> None:
    """The second is always the more accurate one, and within the budget in one draw of four."""
    accuracies = np.tile([0.8, 0.9], (4, 1))
    fits = np.array([[True, True], [True, False], [True, False], [False, False]])
    assert chance_of(1, accuracies, fits) == 0.25
    assert chance_of(0, accuracies, fits) == 0.5
