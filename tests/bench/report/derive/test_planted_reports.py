"""Planted truths in whole reports: every sentence that a report of equal models could get wrong.

The records are made in memory and go through what a report goes through. As in
tests/bench/stats/test_planted.py the short form runs always, the long one (``make simulations``)
with more trials.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import record_factory as make

from bench.report.derive.findings import findings
from bench.report.derive.pareto import accuracy_draws, front
from bench.report.derive.speed import gate
from bench.report.derive.speed.axes import Axis
from bench.report.page.verdict import lines
from bench.report.read.load import Loaded, LoadedProfile, LoadedRun
from bench.report.read.predictions import Predictions
from bench.report.read.profiled import CostRow
from bench.report.read.study import study
from bench.report.read.timings import timing_of
from bench.report.read.trained import Cell
from bench.stats.luck import pooled, spread_of
from bench.stats.times import geometric_interval

N = 1_000
SEED_SD = 0.005
ONE_SEED = [(n, s) for n in ("resnet50", "se_resnet50", "resnet101") for s in ("imagenet", "cifar")]
THREE_SEEDS = [("resnet18", "cifar"), ("se_resnet18", "cifar")]
RECORDS = {
    (name, stem, seed): make.run_record(make.model(name, stem), seed=seed)
    for name, stem in (*ONE_SEED, *THREE_SEEDS)
    for seed in range(3)
}
PROFILES = {
    (name, sitting): make.profile_record(make.model(name), seed=sitting, series="s", group="g")
    for name in ("resnet18", "resnet50", "se_resnet50", "resnet101")
    for sitting in range(5)
}


def trials(short: int, long: int):
    return pytest.mark.parametrize(
        "trials", [short, pytest.param(long, marks=pytest.mark.slow)], ids=["short", "long"]
    )


def room(count: int, share: float = 0.05) -> float:
    """Return what a share of so many trials may be off by luck: three standard errors."""
    return 3 * math.sqrt(share * (1 - share) / count)


def tell(what: str, value: float) -> float:
    """Print a figure for who runs this with -s, and return it."""
    print(f"\n    {what}: {100 * value:.1f} %", end="")  # noqa: T201
    return value


def trained(draw, ease, name, stem, level, seeds):
    """Yield the runs of a model whose accuracy is ``level`` on average over seeds and images."""
    for seed in range(seeds):
        own = ease + 0.02 * draw.standard_normal(N) < level + SEED_SD * draw.standard_normal()
        record = RECORDS[name, stem, seed]
        right = int(own.sum())
        test = record.test.model_copy(
            update={"num_images": N, "top1_correct": right, "top1": right / N}
        )
        said = Predictions(np.zeros(N, np.int16), np.zeros(N, np.int16), own, own, "t", 0.1, 0.5)
        yield LoadedRun(record.model_copy(update={"test": test}), f"{name}-{stem}-{seed}", said)


def timed(draw, name):
    """Yield a row in five sittings, each of them 2 % to either side for this row alone."""
    for sitting in range(5):
        record = PROFILES[name, sitting]
        times = 0.1 * np.exp(0.02 * draw.standard_normal() + 0.005 * draw.standard_normal(20))
        timing = record.timing.model_copy(update={"block_s": tuple(times.tolist())})
        yield LoadedProfile(record.model_copy(update={"timing": timing}), record.id)


def null_report(draw):
    """Return the findings on eight models of equal accuracy and four of equal speed."""
    ease = draw.random(N)
    runs = [r for model in ONE_SEED for r in trained(draw, ease, *model, 0.8, 1)]
    runs += [r for model in THREE_SEEDS for r in trained(draw, ease, *model, 0.8, 3)]
    names = dict.fromkeys(name for name, _ in PROFILES)
    profiles = [profile for name in names for profile in timed(draw, name)]
    return findings(study(Loaded(tuple(runs), tuple(profiles), (), ())))


@trials(60, 1000)
def test_reports_of_equal_models_hold_no_false_sentence(trials):
    """Pairs, effects, gains, gaps, and ratios of speed: any false one in 5 % of reports."""
    draw, models, speeds = np.random.default_rng(20), 0, 0
    for _ in range(trials):
        found = null_report(draw)
        effects = [e for one in found.attributions for e in one.effects]
        gaps = [gap for one in found.attributions for gap in one.gaps]
        judged = [*found.pairs.pairs, *effects, *found.gains]
        assert len(judged) > 30
        assert gaps
        told = any(one.finding in ("more", "less") for one in judged) or any(
            gap.resolved for gap in gaps
        )
        text = dict(lines(found))["Established:"]
        assert told or text.startswith("nothing")
        models += told
        ratios = [s.ratio for s in found.speeds]
        ratios += [one.ratio for cost in found.costs for one in cost.runtimes]
        assert len(ratios) > 3
        speeds += any(ratio.finding in ("more", "less") for ratio in ratios)
    assert tell("reports with a false sentence on models", models / trials) <= 0.05 + room(trials)
    assert tell("with one on speeds", speeds / trials) <= 0.05 + room(trials)


# What a process multiplies each row's time with: the spread about 1, and a state it may be in.
MACHINES = {"sittings 2 % apart": (0.02, 0.0), "a slow state of 3 %": (0.003, 0.03)}
TURNS = [
    [
        make.profile_record(make.model("resnet50", num_classes=2 + row), seed=number, env=when)
        for number in range(10)
        if (when := make.environment(started_at=f"2026-01-01T00:{number:02}Z"))
    ]
    for row in range(36)
]


def job(draw, rows, machine, factor=1.0):
    """Return what the gate says of five pairs of processes; ``factor`` is what the new side adds.

    Times of each row move from process to process on their own.
    """
    sitting, state = machine
    sides = ([], [])
    for row in range(rows):
        profiles = ([], [])
        for number, record in enumerate(TURNS[row]):
            is_new = number % 4 in (1, 2)
            log = sitting * draw.standard_normal() + state * (draw.random() < 0.5)
            took = 0.1 * math.exp(log) * (factor if is_new else 1.0)
            facts = {"block_s": (took,) * 8, "block_iters": (1,) * 8}
            timing = record.timing.model_copy(update=facts)
            one = record.model_copy(update={"timing": timing})
            profiles[is_new].append(LoadedProfile(one, record.id))
        for side, own in zip(sides, profiles, strict=True):
            side.append(CostRow(str(row), tuple(own)))
    base, new = (gate.Measurements((), tuple(side), ()) for side in sides)
    found = [change for change in gate.compare(base, new) if change.kind == "time"]
    assert len(found) == rows
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rows", [20, 36])
@trials(12, 500)
def test_identical_code_passes_jobs_of_many_rows(rows, machine, trials):
    """Five pairs a job: any row called slower or faster in at most 5 % of jobs.

    No room for luck is left: so many rows err in fewer jobs, by the spread that they share.
    """
    draw, false = np.random.default_rng(22), 0
    for _ in range(trials):
        told = {change.verdict for change in job(draw, rows, MACHINES[machine])}
        assert "not decided" not in told
        false += bool(told & {"slower", "faster"})
    assert tell("jobs with a false row", false / trials) <= 0.05


@trials(30, 500)
def test_a_change_of_5_percent_is_found_in_a_job_of_six_rows(trials):
    """Sittings 1 % apart, all six rows 5 % slower: each of them is found in 9 of 10."""
    draw, found = np.random.default_rng(23), 0
    for _ in range(trials):
        found += sum(c.verdict == "slower" for c in job(draw, 6, (0.01, 0.0), 1.05)) / 6
    assert tell("found", found / trials) >= 0.9 - room(trials, 0.1)


@pytest.mark.parametrize("sitting", [0.02, 0.1])
@trials(300, 4000)
def test_the_rate_over_several_sittings_covers_the_truth(sitting, trials):
    """Five processes, each with an effect of its own: 93 to 97 % hold the rate of many."""
    draw, covered = np.random.default_rng(24), 0
    for _ in range(trials):
        records = []
        for record in TURNS[0][:5]:
            times = 0.1 * np.exp(sitting * draw.standard_normal() + 0.01 * draw.standard_normal(20))
            timing = record.timing.model_copy(update={"block_s": tuple(times.tolist())})
            records.append(record.model_copy(update={"timing": timing}))
        covered += timing_of(records).rate.contains(records[0].batch_size / 0.1)
    assert 0.93 - room(trials) <= tell("covered", covered / trials) <= 0.97 + room(trials)


def cells(draw, levels):
    """Return trained cells of one seed each, and the luck pooled over four others of three."""
    ease = draw.random(N)
    names = [("resnet18", "cifar"), *ONE_SEED]
    found = [
        Cell(name + stem, tuple(trained(draw, ease, name, stem, level, 1)))
        for (name, stem), level in zip(names, levels, strict=False)
    ]
    others = [list(trained(draw, ease, "resnet18", "cifar", 0.78, 3)) for _ in range(4)]
    luck = pooled([spread_of(np.stack([r.predictions.correct for r in runs])) for runs in others])
    return found, replace(luck, freedom=luck.freedom)


@pytest.mark.parametrize("models", [2, 4])
@trials(400, 4000)
def test_chances_of_fronts_and_choices_are_what_they_say(models, trials):
    """Accuracies a point apart, costs 5 % apart and known to 2 %: within 5 points."""
    draw = np.random.default_rng(21)
    said, so, chosen, right = [], [], [], []
    for _ in range(trials):
        levels = 0.8 + 0.01 * draw.standard_normal(models)
        costs = np.exp(0.05 * draw.standard_normal(models))
        found, luck = cells(draw, levels)
        read = costs * np.exp(0.02 * math.sqrt(5) * draw.standard_normal((5, models)))
        values = {c.key: geometric_interval(read[:, m]) for m, c in enumerate(found)}
        told = front(found, Axis("cost", "cost", "ms", True, values), accuracy_draws(found, luck))
        place = {cell.key: number for number, cell in enumerate(found)}
        for one in told.places:
            m = place[one.cell.key]
            beaten = (levels > levels[m]) & (costs < costs[m])
            said.append(one.probability)
            so.append(not beaten.any())
        for choice in told.choices:
            fits = costs <= choice.budget
            m = place[choice.cell.key]
            chosen.append(choice.probability)
            right.append(bool(fits[m]) and levels[m] == levels[fits].max())
    for what, claims, truths in (("fronts", said, so), ("choices", chosen, right)):
        claims, truths = np.array(claims), np.array(truths)
        tell(f"{what}: said", claims.mean())
        assert tell("so", truths.mean()) == pytest.approx(
            claims.mean(), abs=0.05 + room(trials, 0.25) / 2
        )
        sure = claims > 0.9
        tell(f"{what} when sure: said", claims[sure].mean())
        assert tell("so", truths[sure].mean()) >= claims[sure].mean() - 0.05 - room(
            int(sure.sum()), 0.1
        )
