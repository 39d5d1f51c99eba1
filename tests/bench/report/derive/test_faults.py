"""What a report must not lose: each test here is the only one to notice a certain fault."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import record_factory as make

from bench.record.profile import MemoryFacts, NoiseFacts
from bench.report.derive.conditions import accuracy_conditions, speed_conditions
from bench.report.derive.findings import findings
from bench.report.derive.headline import headlines
from bench.report.derive.pareto import accuracy_draws, front
from bench.report.derive.seeds import Stated, luck_of
from bench.report.derive.speed import gate
from bench.report.derive.speed.axes import Axis
from bench.report.derive.speed.profile_rows import cost_rows
from bench.report.derive.speed.ratios import corrected, time_ratio
from bench.report.derive.time_to import races
from bench.report.page import formats
from bench.report.page.blocks import Table
from bench.report.page.contents import contents
from bench.report.page.verdict import lines
from bench.report.page.wording import choice_sentence, speed_verdict
from bench.report.read.load import load
from bench.report.read.study import study
from bench.report.read.timings import timing_of
from bench.spec.recipe import Recipe
from bench.stats.accuracy import calibration_error
from bench.stats.decide import holm
from bench.stats.luck import stated
from bench.stats.replicates import Replicated
from bench.stats.times import Interval

N = 2000


def shares(folder, *wanted, seeds=1, apart=0.0):
    """Write models by name, stem and the share of images that they get right."""
    for name, stem, share in wanted:
        for seed in range(seeds):
            level = share + apart * (seed - (seeds - 1) / 2)
            right = np.arange(N) < level * N
            where = folder / f"{name}-{stem}-{seed}"
            make.write_run(where, right, spec=make.model(name, stem), seed=seed)
    return folder


def read(folder):
    return study(load([folder]))


def test_pairs_effects_gains_and_gaps_are_one_family(tmp_path):
    """Each test once: the smallest p-value times their number, and two cells with one verdict."""
    corners = [("resnet50", "imagenet", 0.8), ("resnet50", "cifar", 0.815)]
    corners += [("se_resnet50", "imagenet", 0.807), ("se_resnet50", "cifar", 0.82)]
    corners += [("resnet101", "imagenet", 0.802), ("resnet101", "cifar", 0.811)]
    corners += [("se_resnet101", "imagenet", 0.806), ("se_resnet101", "cifar", 0.818)]
    result = findings(read(shares(tmp_path, *corners)), stated=Stated(0.004))
    effects = [e for one in result.attributions for e in one.effects]
    gaps = [gap for one in result.attributions for gap in one.gaps]
    told = [(p.difference.p, p.p_family, p.family_size) for p in result.pairs.pairs]
    told += [(e.top1.p, e.p_family, e.family_size) for e in effects]
    size = len(result.pairs.pairs) + sum(e.term.num_contexts > 1 for e in effects)
    assert {number for _, _, number in told} == {size}
    for kind in (result.pairs.pairs, effects):
        assert any(one.p_family > 0 for one in kind)
    alone, corrected, _ = min(told)
    assert corrected == pytest.approx(min(1.0, size * alone))
    ranked = sorted(told)
    assert all(a <= b for (_, a, _), (_, b, _) in pairwise(ranked))
    assert all(p < family for p, family, _ in ranked[:-1] if 0 < p < 0.5)
    judged = {frozenset((p.first.key, p.second.key)): p.p_family for p in result.pairs.pairs}
    assert len(gaps) > 1
    for gap in gaps:
        assert gap.p_family == judged[frozenset((gap.plain.key, gap.full.key))]
    for gain in result.gains:
        assert gain.p_family == judged[frozenset((gain.plain.key, gain.full.key))]


def test_an_effect_in_one_context_is_the_pair_of_its_cells(tmp_path):
    """Two models are one test, not a pair, an effect and a gain."""
    shares(tmp_path, ("resnet50", "cifar", 0.8), ("se_resnet50", "cifar", 0.81))
    result = findings(read(tmp_path), stated=Stated(0.004))
    (pair,), (gain,) = result.pairs.pairs, result.gains
    ((effect,),) = (one.effects for one in result.attributions)
    assert (pair.family_size, effect.family_size) == (1, 1)
    assert pair.difference.p == pair.p_family == effect.p_family == gain.p_family


def test_accuracies_in_the_gate_are_a_family(tmp_path):
    """A p-value of 0.027 alone is nothing among three."""
    for number, name in enumerate(("resnet50", "resnet101", "resnet18")):
        before = np.arange(N) < 0.8 * N
        after = before.copy()
        if number == 0:
            after[:30], after[1600:1650] = False, True
        make.write_run(tmp_path / "base" / name, before, spec=make.model(name))
        make.write_run(tmp_path / "new" / name, after, spec=make.model(name))
    sides = (gate.read(tmp_path / side) for side in ("base", "new"))
    found = gate.compare(*sides, gate.Wanted(seed_sd=0.0005))
    assert [c.verdict for c in found if "resnet50" in c.what] == ["not resolved"]


def test_the_gates_floor_stops_what_its_interval_does_not(tmp_path):
    """Pairs that agree on 2 %, while neighbours of one side are 10 % apart: nothing."""
    base, new = tmp_path / "base", tmp_path / "new"
    levels = [1.0, 1.1, 1.0, 1.1, 1.0]
    for pair, level in enumerate(levels):
        for side, factor in ((base, 1.0), (new, 1.02)):
            second = int((side == new) != (pair % 2 == 1))
            env = make.environment(started_at=f"2026-01-01T00:0{pair}:0{second}Z")
            call_s = 0.1 * level * factor * (1 + 1e-4 * pair)
            own = {"seed": 10 * pair + (side == new), "noise": 0.0, "env": env}
            make.write_profile(side, make.profile_record(call_s=call_s, **own))
    (change,) = gate.compare(gate.read(base), gate.read(new), gate.Wanted(time_margin=0.001))
    assert change.interval.low > 1.01
    assert change.floor > 0.05
    assert change.verdict == "not resolved"


def test_models_that_guess_have_no_luck_to_pool(tmp_path):
    """Three seeds at chance agree to an image; they say nothing of those that learn."""
    shares(tmp_path, ("resnet101", "cifar", 0.1), seeds=3)
    shares(tmp_path, ("resnet50", "cifar", 0.8))
    assert luck_of(read(tmp_path).cells).by_data == {}


def test_seed_luck_and_cost_noise_are_in_the_chances_of_a_front(tmp_path):
    """Half a point apart with a seed sd of 1 point, costs that overlap: nobody is sure."""
    shares(tmp_path, ("resnet18", "cifar", 0.80), ("resnet50", "cifar", 0.85))
    cells = read(tmp_path).cells
    draws = accuracy_draws(cells, stated(0.05))
    exact = {c.key: Interval(v, v, v, 1) for c, v in zip(cells, (1.0, 2.0), strict=True)}
    places = front(cells, Axis("cost", "cost", "ms", True, exact), draws).places
    assert places[1].probability < 0.95  # the dear one need not be the better
    sure = front(
        cells, Axis("cost", "cost", "ms", True, exact), accuracy_draws(cells, stated(1e-5))
    )
    assert sure.places[1].probability > 0.99
    vague = {c.key: Interval(v, v / 2, 2 * v, 9) for c, v in zip(cells, (1.0, 1.03), strict=True)}
    near = front(
        cells, Axis("cost", "cost", "ms", True, vague), accuracy_draws(cells, stated(1e-5))
    )
    assert 0.4 < near.places[0].probability < 0.7  # as likely the dear as the cheap one
    assert near.places[1].points_per_percent is None
    close = {c.key: Interval(v, v, v, 1) for c, v in zip(cells, (1.0, 1.03), strict=True)}
    steps = front(cells, Axis("cost", "cost", "ms", True, close), draws).places
    assert steps[1].points_per_percent is None  # 3 % is no step


def test_a_choice_that_hardly_fits_its_budget_is_half_as_sure(tmp_path):
    """The better of two costs 0.99, known to a fifth: in half of all draws it is above 1."""
    shares(tmp_path, ("resnet18", "cifar", 0.80), ("resnet50", "cifar", 0.85))
    cells = read(tmp_path).cells
    costs = zip(cells, (0.4, 0.99), strict=True)
    values = {c.key: Interval(v, v / 1.2, v * 1.2, 9) for c, v in costs}
    axis = Axis("cost", "cost", "ms", True, values)
    found = front(cells, axis, accuracy_draws(cells, stated(1e-5)))
    assert [(c.budget, c.cell.model.name) for c in found.choices] == [
        (0.5, "resnet18"), (1.0, "resnet50")
    ]  # fmt: skip
    assert 0.4 < found.choices[1].probability < 0.65
    names = {c.key: c.model.name for c in cells}
    for chance, told in (
        (0.2, "nothing stands out; measured best is resnet50"),
        (0.6, "take resn"),
    ):
        choice = replace(found.choices[1], probability=chance)
        assert told in choice_sentence(found, choice, names)


def test_what_attention_does_comes_first_among_what_is_suggested(tmp_path):
    """Of two data sets the first holds depths alone: the other's SE is told before them."""
    right = np.arange(N) < 0.8 * N
    for label, names in (("A", ("resnet18", "resnet50")), ("B", ("resnet50", "se_resnet50"))):
        for name in names:
            data = make.dataset(label, label.lower() * 64, N)
            make.write_run(tmp_path / label / name, right, spec=make.model(name), data=data)
    told = dict(lines(findings(read(tmp_path), stated=Stated(0.01))))["Only suggested:"]
    assert told.startswith("se_resnet50")


def test_calibration_error_is_over_fifteen_bins():
    """Confidence 0.05 and 0.08, right and wrong: apart in fifteen bins, together in ten."""
    confidence = np.array([0.05, 0.08], dtype=np.float32)
    found = calibration_error(confidence, np.array([True, False]))
    assert found == pytest.approx((0.95 + 0.08) / 2)


def test_one_sitting_decides_no_ratio(tmp_path):
    """Twice the time, to a tenth of a per cent, in four sittings: not resolved; in five: more."""

    def ratio(sittings):
        rows = cost_rows([
            make.profile_record(make.model(name), call_s=call_s, noise=0.001, seed=seed,
                                series="s", group="g")
            for seed in range(sittings)
            for name, call_s in (("resnet50", 0.1), ("se_resnet50", 0.2 * (1 + 0.01 * seed)))
        ])  # fmt: skip
        base, row = sorted(rows, key=lambda row: row.model.name)
        return time_ratio(row, base)

    assert (ratio(1).finding, ratio(1).method) == ("not resolved", "within one sitting")
    assert (ratio(4).finding, ratio(4).method) == ("not resolved", "4 sittings; 5 are needed")
    assert ratio(5).finding == "more"


def test_blocks_without_rounds_took_no_turns():
    """A record may lack them: its row is compared as one that was timed apart."""
    records = [
        make.profile_record(make.model(name), series="s", group="g")
        for name in ("resnet50", "se_resnet50")
    ]
    without = records[0].timing.model_copy(update={"block_round": ()})
    base, row = cost_rows([records[0].model_copy(update={"timing": without}), records[1]])
    assert time_ratio(row, base).method == "timed apart"


def in_sittings(sittings, factor, name="resnet50", *, per=0.01, turn=0.0, **changes):
    """Return a row in turns with what takes ``factor`` times as long, in every sitting a bit more.

    ``turn`` is how much slower every second block of a round is, of both rows alike.
    """
    for seed in range(sittings):
        for model, call_s in ((name, 0.1), (f"se_{name}", 0.1 * factor * (1 + per * (seed % 2)))):
            own = {"noise": 0.0, "seed": seed, "series": "s", "group": "g", "blocks": 40, **changes}
            record = make.profile_record(make.model(model), call_s=call_s, **own)
            times = tuple(call_s * (1 + turn * (n % 2)) for n in range(40))
            rounds = {"block_s": times, "block_round": tuple(n // 2 for n in range(40))}
            timing = record.timing.model_copy(update=rounds)
            yield record.model_copy(update={"timing": timing})


def the_ratio(records):
    base, row = sorted(cost_rows(list(records)), key=lambda row: row.model.name)
    return time_ratio(row, base)


def test_rows_that_other_work_starved_decide_nothing():
    """Twice the time in five sittings, two thirds of the cores taken in all of one row's."""
    assert the_ratio(in_sittings(5, 2.0)).finding == "more"
    busy = NoiseFacts(other_cpu_share=0.65)
    records = [
        r.model_copy(update={"noise": busy}) if r.model.name == "resnet50" else r
        for r in in_sittings(5, 2.0)
    ]
    found = the_ratio(records)
    assert (found.finding, found.differs, found.interval.high) == ("not resolved", False, math.inf)
    assert speed_verdict(found) == "not decided: other work had too much of the machine"


def test_a_ratio_within_the_noise_between_turns_is_no_difference():
    """Five sittings agree on 2 %, while a row is 30 % from itself within a round."""
    assert the_ratio(in_sittings(5, 1.02, per=0.0001)).finding == "more"
    noisy = the_ratio(in_sittings(5, 1.02, per=0.0001, turn=0.3))
    assert noisy.floor > 0.02
    assert noisy.finding == "same"  # no difference beyond the floor, and within 5 %
    assert not noisy.differs


def test_speed_ratios_are_a_family_in_both_of_their_tests(tmp_path):
    """Each p-value, of a difference and of being the same, is Holm's over all the ratios."""
    for batch, scenario in ((64, "offline"), (1, "single_stream")):
        for factor, name in ((1.01, "resnet50"), (1.02, "resnet18")):
            own = {"batch_size": batch, "scenario": scenario, "per": 0.03, "runtime": "eager"}
            for record in in_sittings(5, factor, name, **own):
                one = record.model_copy(update={"id": f"{record.id}-{name}"})
                make.write_profile(tmp_path, one)
    result = findings(read(tmp_path))
    apart = [speed.ratio for speed in result.speeds if speed.factor == "attention"]
    alone = {r.replicated.log: (r.replicated.p, r.replicated.p_same(0.05)) for r in apart}
    every = [speed.ratio for speed in result.speeds]
    for which, told in enumerate(([r.p for r in every], [r.p_same for r in every])):
        raw = [(r.replicated.p, r.replicated.p_same(0.05))[which] for r in every]
        assert told == pytest.approx(holm(raw))
        assert told != pytest.approx(raw)
    assert len(alone) >= 2
    inside = {(one.row.key, one.base.key): one.ratio for c in result.costs for one in c.runtimes}
    told = {(s.row.key, s.base.key): s.ratio for s in result.speeds}
    assert inside
    assert all(told[pair] == ratio for pair, ratio in inside.items())


def test_a_difference_of_one_ratio_alone_is_none_in_its_family():
    """A p-value of 0.03 of three ratios, and one of being the same."""
    found = the_ratio(in_sittings(5, 1.5))
    one = replace(found, replicated=Replicated(0.4, 0.4 / 3.3, 4.0, 5))
    assert one.replicated.p == pytest.approx(0.03, abs=0.001)
    assert [r.finding for r in corrected([one])] == ["more"]
    assert [r.finding for r in corrected([one] * 3)] == ["not resolved"] * 3
    same = replace(found, replicated=Replicated(0.0, 0.0185, 4.0, 5))
    assert same.replicated.p_same(0.05) == pytest.approx(0.03, abs=0.002)
    assert [r.finding for r in corrected([same])] == ["same"]
    assert [r.finding for r in corrected([same] * 3)] == ["not resolved"] * 3


def test_what_attention_costs_comes_with_its_noise_and_what_disturbed_it(tmp_path):
    """Decided or not: the verdict's line names how it was found, the floor, and the doubts."""
    for record in in_sittings(5, 1.5, turn=0.02):
        make.write_profile(tmp_path / "five", record)
    for record in in_sittings(1, 1.5, turn=0.02, warnings=("the machine runs on battery",)):
        make.write_profile(tmp_path / "one", record)
    five, one = (lines(findings(read(tmp_path / name)))[0] for name in ("five", "one"))
    assert five[0] == "What SE costs, a batch of 64:"
    assert "slower, noise 2." in five[1]
    assert "×1.500, not decided: within one sitting, noise 2." in one[1]
    assert "[the machine runs on battery]" in one[1]
    assert "battery" not in five[1]


def test_the_verdict_tells_of_the_batch_size_that_was_decided(tmp_path):
    """Batch 64 in one sitting and in two runtimes, batch 8 in five sittings: that is told."""
    for record in in_sittings(5, 1.5, batch_size=8):
        make.write_profile(tmp_path, record)
    for runtime in ("eager", "compile"):
        for record in in_sittings(1, 1.5, runtime=runtime):
            one = record.model_copy(update={"id": f"{record.id}-{runtime}", "sitting": "z"})
            make.write_profile(tmp_path, one)
    ((lead, text),) = (item for item in lines(findings(read(tmp_path))) if "costs" in item[0])
    assert lead == "What SE costs, a batch of 8:"
    assert "slower" in text


def test_a_column_names_what_its_intervals_cover(tmp_path):
    """Times within a sitting have a table of their own; no heading has an interval of no kind."""
    make.write_example(tmp_path / "five", num_test=200, seeds=3, sittings=5)
    for name in ("resnet50", "se_resnet50"):
        record = make.profile_record(make.model(name), batch_size=1, scenario="single_stream")
        make.write_profile(tmp_path / "one", record)
    for folder, kinds in (
        ("five", {"time (95 % CI: between sittings)"}),
        ("one", {"time (95 % CI: within a sitting)"}),
    ):
        result = findings(read(tmp_path / folder), stated=Stated(0.01))
        blocks = [block for block in contents(result) if isinstance(block, Table)]
        headings = {column for block in blocks for column in block.columns}
        assert not [column for column in headings if "95 % CI)" in column]
        assert {column for column in headings if column.startswith("time (")} == kinds
        timed = any("between sittings)" in c and c.startswith("latency, ") for c in headings)
        trained = any("between trainings)" in column for column in headings)
        assert (timed, trained) == ((True, True) if folder == "five" else (False, False))


def test_a_factor_of_which_nothing_is_known_is_marked():
    """×1.5 (0.01–225) is not printed as if it were a figure."""
    assert formats.ratio(Interval(1.5, 0.01, 225.0, 3)) == "×1.500 (0.01–225: too wide to tell)"
    assert "wide" not in formats.ratio(Interval(1.5, 1.0, 2.0, 3))


def test_luck_of_models_that_were_trained_otherwise_is_said_to_be(tmp_path):
    """Three seeds with one recipe, one seed with another: each sentence on the latter says so."""
    shares(tmp_path / "a", ("resnet101", "cifar", 0.8), seeds=3, apart=0.002)
    for name, share in (("resnet50", 0.8), ("se_resnet50", 0.83)):
        other = Recipe(name="longer", epochs=9, milestones=())
        right = np.arange(N) < share * N
        make.write_run(tmp_path / name, right, spec=make.model(name), recipe=other)
        for seed in range(3):
            own = {
                "batch_size": 1,
                "scenario": "single_stream",
                "seed": seed,
                "call_s": share - 0.7,
            }
            make.write_profile(tmp_path / "p", make.profile_record(make.model(name), **own))
    result = findings(read(tmp_path))
    told = dict(lines(result))
    note = "of models that have several, not all trained alike"
    assert note in told["Established:"]
    taken = next(text for lead, text in told.items() if "to take" in lead)
    assert taken.endswith("; one seed.")  # what its sd is from was said
    pair = next(p for p in result.pairs.pairs if "resnet101" not in p.first.model.name)
    assert pair.difference.method.endswith("(df 2, not all trained alike)")
    shares(tmp_path / "b", ("resnet50", "cifar", 0.8), ("se_resnet50", "cifar", 0.83))
    shares(tmp_path / "b", ("resnet101", "cifar", 0.8), seeds=3, apart=0.002)
    assert "trained alike" not in dict(lines(findings(read(tmp_path / "b"))))["Established:"]


def test_that_nothing_was_published_is_said(tmp_path):
    """Nobody else has figures on shapes; of CIFAR-10 they have, if not of the best model."""
    shares(tmp_path / "a", ("resnet20", "cifar", 0.8))
    text = dict(lines(findings(read(tmp_path / "a"))))["Scope, Shapes:"]
    assert "no published figure is known of these models on these data" in text
    data = make.dataset("CIFAR-10", "c" * 64, N)
    for name, share in (("resnet20", 0.8), ("simam_resnet20", 0.85)):
        right = np.arange(N) < share * N
        make.write_run(tmp_path / "b" / name, right, spec=make.model(name), data=data)
    text = dict(lines(findings(read(tmp_path / "b"))))["Scope, CIFAR-10:"]
    assert "no published figure" not in text
    assert "; resnet20 " in text
    assert " of " in text.split("points below")[1]


def test_the_gap_is_among_the_pairs_of_many_models(tmp_path):
    """Of twenty models only some pairs are compared; stem and attention together are."""
    for depth in (18, 34, 50, 101, 152):
        for name, plus in ((f"resnet{depth}", 0.0), (f"se_resnet{depth}", 0.02)):
            level = 0.5 + depth / 1000 + plus
            shares(tmp_path, (name, "imagenet", level), (name, "cifar", level + 0.08))
    result = findings(read(tmp_path), stated=Stated(0.001))
    gaps = [gap for one in result.attributions for gap in one.gaps]
    assert len(gaps) == 5
    assert all(gap.resolved and gap.shares for gap in gaps)


def test_rows_meet_only_under_equal_conditions():
    """Other flags, threads or uncommitted changes: no ratio, whatever asks for one."""
    base = make.profile_record(make.model("resnet50"))
    for change in ({"flags": {"flush_denormal": "False"}}, {"dirty": True}, {"num_threads": 1}):
        other = make.profile_record(make.model("se_resnet50"), env=make.environment(**change))
        row, plain = (cost_rows([record])[0] for record in (other, base))
        assert time_ratio(row, plain) is None, change
        assert speed_conditions(row) != speed_conditions(plain), change


def test_uncommitted_changes_are_a_condition_of_accuracies(tmp_path):
    """Code that no commit holds is not compared with code that one does."""
    right = np.arange(N) < 0.8 * N
    make.write_run(tmp_path / "a", right, spec=make.model("resnet50"))
    env = make.environment(dirty=True)
    make.write_run(tmp_path / "b", right, spec=make.model("se_resnet50"), env=env)
    one, two = (accuracy_conditions(cell) for cell in read(tmp_path).cells)
    assert one["uncommitted changes"] != two["uncommitted changes"]


def test_starved_sittings_are_not_pooled_with_good_ones(tmp_path):
    """Of three sittings the one beside which others used most of the cores is set aside."""
    for seed, (call_s, share) in enumerate(((0.1, 0.0), (0.1, 0.02), (8.0, 0.65))):
        record = make.profile_record(call_s=call_s, seed=seed)
        noise = NoiseFacts(other_cpu_share=share)
        make.write_profile(tmp_path, record.model_copy(update={"noise": noise}))
    found = read(tmp_path)
    (row,) = found.costs
    assert row.timing.num_processes == 2
    assert row.timing.p50_ms == pytest.approx(100, rel=0.05)
    assert "other work had too much of the machine" in found.set_aside[0].reason


def test_sittings_that_disagree_say_so():
    """A row at 100 ms and, in another process, at 136 ms."""
    records = [make.profile_record(call_s=s, seed=i) for i, s in enumerate((0.1, 0.136))]
    assert "sittings_disagree" in timing_of(records).flags
    assert "sittings_disagree" not in timing_of(records[:1]).flags


def test_percentiles_are_those_they_are_called():
    """Of 1 … 100 ms the 90th percentile is 90.1 ms; a 99th needs a thousand calls."""
    times = tuple((n + 1) / 1000 for n in range(100))
    record = make.profile_record(blocks=100)
    timing = record.timing.model_copy(update={"block_s": times})
    found = timing_of([record.model_copy(update={"timing": timing})])
    assert found.p90_ms == pytest.approx(90.1)
    assert found.p99_ms is None


def test_epochs_are_told_by_their_median(tmp_path):
    """10, 10 and 1,000 seconds are 10 a training epoch."""
    path = make.write_run(tmp_path / "a", np.arange(N) < 0.8 * N)
    record = json.loads(path.read_text())
    for epoch, seconds in zip(record["epochs"], (10.0, 10.0, 1000.0), strict=True):
        epoch["epoch_wall_s"], epoch["throughput"] = seconds, 5000 / seconds
    make.damage(path, epochs=record["epochs"])
    (cell,) = read(tmp_path).cells
    assert cell.epoch_wall_s == 10.0


def test_peak_memory_is_the_largest_of_all_processes():
    """100 and 130 MiB are 130."""
    records = [
        make.profile_record(seed=i, memory=MemoryFacts(peak_bytes=p, total_bytes=p, method="x"))
        for i, p in enumerate((100, 130))
    ]
    (row,) = cost_rows(records)
    assert row.peak_memory_bytes == 130


def test_of_two_commits_the_newest_profile_is_shown(tmp_path):
    """The row measured last stands in the main table."""
    for day, commit, call_s in ((1, "a" * 40, 0.1), (2, "b" * 40, 0.2)):
        when = f"2026-01-0{day}T00:00:00Z"
        env = make.environment(commit=commit)
        record = make.profile_record(call_s=call_s, seed=day, env=env, created_at=when)
        make.write_profile(tmp_path, record)
    (line,) = headlines(read(tmp_path))
    assert line.offline.environment.commit == "b" * 40


def test_no_race_is_run_to_what_guessing_reaches(tmp_path):
    """Ten classes, one model at 14 % and one at 80 %: no threshold at 10 %."""
    shares(tmp_path, ("resnet50", "cifar", 0.14), ("resnet101", "cifar", 0.8))
    (race,) = races(read(tmp_path))
    assert race.targets
    assert min(race.targets) >= 0.15


def test_a_limit_that_limits_nothing_makes_no_other_model(tmp_path):
    """Seeds 0 and 1, the second with a limit above the number of images: one model, two seeds."""
    right = np.arange(N) < 0.8 * N
    make.write_run(tmp_path / "a", right, seed=0)
    path = make.write_run(tmp_path / "b", right, seed=1)
    spec = json.loads(path.read_text())["spec"]
    spec["data"]["train_limit"] = 10**6
    make.damage(path, spec=spec)
    (cell,) = read(tmp_path).cells
    assert cell.seeds == (0, 1)


def test_labels_say_what_tells_equal_names_apart(tmp_path):
    """Two recipes that differ in momentum alone are told apart by it, not by a number."""
    right = np.arange(N) < 0.8 * N
    for name, momentum in (("a", 0.9), ("b", 0.8)):
        path = make.write_run(tmp_path / name, right)
        spec = json.loads(path.read_text())["spec"]
        spec["recipe"]["momentum"] = momentum
        make.damage(path, spec=spec)
    labels = findings(read(tmp_path)).labels.values()
    assert sorted(labels) == ["resnet50, momentum 0.8", "resnet50, momentum 0.9"]
