"""Fronts, their probabilities, and what to take at a budget."""

import numpy as np
import pytest
import record_factory as make
from hypothesis import given
from hypothesis import strategies as st

from bench.record.profile import ALLOCATOR_PEAK, MemoryFacts
from bench.report.derive.findings import findings
from bench.report.derive.pareto import chance_of, round_budgets
from bench.report.derive.seeds import Stated
from bench.report.page.verdict import lines
from bench.report.page.wording import choice_sentence
from bench.report.read.load import load
from bench.report.read.study import study
from bench.stats.pareto import on_front

N = 4000


def write(folder, name, share, call_s, shuffle=0, sittings=5, **changes):
    right = np.random.default_rng(shuffle).permutation(N) < share * N
    make.write_run(folder / "runs" / name, right, spec=make.model(name))
    own = {"batch_size": 1, "scenario": "single_stream", **changes}
    for seed in range(sittings):
        record = make.profile_record(make.model(name), call_s=call_s, seed=seed, **own)
        make.write_profile(folder / "profiles", record)


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


@pytest.mark.parametrize(("sittings", "others"), [(1, 0.0), (5, 0.65)], ids=["one", "starved"])
def test_a_cost_whose_noise_is_unknown_decides_no_front_and_no_choice(tmp_path, sittings, others):
    """Of one sitting, or of starved ones, nothing is known of the next: no chance, no step."""
    write(tmp_path, "resnet18", 0.80, 0.0009)
    write(tmp_path, "resnet34", 0.85, 0.0024)
    _, known = front_of(tmp_path)
    assert all(one.probability is not None for one in (*known.places, *known.choices))
    write(tmp_path / "b", "resnet18", 0.80, 0.0009)
    write(tmp_path / "b", "resnet34", 0.85, 0.0024, sittings=sittings)
    for path in (tmp_path / "b" / "profiles").glob("*resnet34*"):
        make.damage(path, noise={"other_cpu_share": others})
    result, front = front_of(tmp_path / "b")
    assert [one.probability for one in (*front.places, *front.choices)] == [None] * 4
    assert [place.points_per_percent for place in front.places] == [None, None]
    (told,) = (text for lead, text in lines(result) if "to take" in lead)
    assert "no chance is given: a cost is of one sitting" in told
    assert "best with" not in told


def test_one_training_is_one_sitting_of_its_cost(tmp_path):
    """Seconds of one training have no noise that is known; those of three seeds have."""
    for seeds in (1, 3):
        for name, share, epoch_s in (("resnet18", 0.8, 10.0), ("resnet34", 0.85, 20.0)):
            for seed in range(seeds):
                right = np.arange(N) < (share + 0.001 * seed) * N
                own = {"spec": make.model(name), "seed": seed, "epoch_s": epoch_s}
                make.write_run(tmp_path / str(seeds) / f"{name}-{seed}", right, **own)
        _, front = front_of(tmp_path / str(seeds), "training-time")
        assert [place.probability is None for place in front.places] == [seeds == 1] * 2


def test_energy_and_memory_that_were_read_are_known_over_sittings_alone(tmp_path):
    """Pages of a process differ from one to the next; bytes that an allocator counted do not."""
    read = MemoryFacts(peak_bytes=2**20, total_bytes=2**20, method="pages")
    counted = read.model_copy(update={"method": ALLOCATOR_PEAK})
    for facts, sittings, known in ((read, 1, False), (read, 3, True), (counted, 1, True)):
        folder = tmp_path / f"{facts.method}-{sittings}"
        for name, share in (("resnet18", 0.8), ("resnet34", 0.85)):
            own = {"memory": facts, "batch_size": 64, "scenario": "offline"}
            write(folder, name, share, 0.1, sittings=sittings, **own)
        _, front = front_of(folder, "memory")
        assert [place.probability is not None for place in front.places] == [known] * 2


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
    assert text == "up to 5 ms, take resnet34 (85.0 %, best with > 99 %)"


def test_more_throughput_is_better(tmp_path):
    """On the throughput axis the fast model comes first and the budget is a lower bound."""
    for name, share, call in (("resnet18", 0.8, 0.06), ("resnet34", 0.85, 0.6)):
        make.write_run(tmp_path / name, np.arange(N) < share * N, spec=make.model(name))
        for seed in range(3):
            record = make.profile_record(make.model(name), call_s=call, seed=seed)
            make.write_profile(tmp_path / "p", record)
    result, front = front_of(tmp_path, "throughput")
    assert [p.cell.model.name for p in front.places] == ["resnet18", "resnet34"]
    texts = [choice_sentence(front, c, result.labels) for c in front.choices]
    assert texts[0].startswith("at no less than 1,000 img/s, take resnet18")
    assert texts[1].startswith("at no less than 100 img/s, take resnet34")
    assert [choice.budget for choice in front.choices] == [1000, 100]  # the tightest first


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
