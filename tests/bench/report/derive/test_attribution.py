"""Effects of stem, SE, depth and recipe: planted ones are found, missing ones are said to be."""

import math

import numpy as np
import pytest
import record_factory as make

from bench.report.derive.findings import findings
from bench.report.derive.seeds import Stated
from bench.report.page.verdict import lines
from bench.report.page.wording import gap_sentence
from bench.report.read.load import load
from bench.report.read.study import study
from bench.spec.recipe import Recipe
from bench.stats import accuracy

N = 4000


def write(folder, name, stem, share, seeds=1, **kwargs):
    """Write runs that get the first ``share`` of the images right, seeds a little apart."""
    for seed in range(seeds):
        right = np.arange(N) < (share + 0.001 * (seed - (seeds - 1) / 2)) * N
        where = folder / f"{name}-{stem}-{seed}-{kwargs.get('recipe', '')!s:.20}"
        make.write_run(where, right, spec=make.model(name, stem), seed=seed, **kwargs)


def attribution(folder, seed_sd=0.001):
    (one,) = findings(study(load([folder])), stated=Stated(seed_sd)).attributions
    return one


def effects(one):
    return {e.term.name: e for e in one.effects}


def test_planted_effects_and_interaction_are_found(tmp_path):
    """Stem +8, SE +1, and +0.5 more when both: 8.25, 1.25 and 0.5 points."""
    shares = {
        ("resnet50", "imagenet"): 0.80,
        ("resnet50", "cifar"): 0.88,
        ("se_resnet50", "imagenet"): 0.81,
        ("se_resnet50", "cifar"): 0.895,
    }
    for (name, stem), share in shares.items():
        write(tmp_path, name, stem, share, seeds=3)
    one = attribution(tmp_path)
    found = effects(one)
    assert found["stem"].top1.interval.estimate == pytest.approx(0.0825)
    assert found["attention"].top1.interval.estimate == pytest.approx(0.0125)
    assert found["stem × attention"].top1.interval.estimate == pytest.approx(0.005)
    assert found["stem"].term.num_contexts == 2
    assert found["stem"].term.change == "imagenet → cifar"
    for effect in found.values():
        assert effect.top1.interval.low < effect.top1.interval.estimate < effect.top1.interval.high
    (gap,) = one.gaps
    assert gap.total.interval.estimate == pytest.approx(0.095)
    shared = {s.name: s.difference.interval.estimate for s in gap.shares}
    assert shared == pytest.approx({"stem": 0.0825, "SE": 0.0125})
    assert sum(shared.values()) == pytest.approx(gap.total.interval.estimate)


def test_costs_of_a_factor_are_exact_ratios(tmp_path):
    """The stem multiplies ResNet-50's MACs by 1,297,829,888 / 83,431,424 = 15.556."""
    for stem in ("imagenet", "cifar"):
        write(tmp_path / "runs", "resnet50", stem, 0.8)
        make.write_profile(tmp_path / "p", make.profile_record(make.model("resnet50", stem)))
    ratio = effects(attribution(tmp_path))["stem"].costs["macs"]
    assert ratio.estimate == pytest.approx(1_297_829_888 / 83_431_424)
    assert ratio.low == pytest.approx(ratio.high)


def test_the_reference_design_cannot_tell_stem_from_se(tmp_path):
    """Only SE with the CIFAR stem and plain with the ImageNet stem: nothing can be credited."""
    write(tmp_path, "resnet50", "imagenet", 0.80)
    write(tmp_path, "resnet101", "imagenet", 0.78)
    write(tmp_path, "se_resnet50", "cifar", 0.885)
    result = findings(study(load([tmp_path])), stated=Stated(0.001))
    (one,) = result.attributions
    assert set(one.inseparable) == {"stem", "attention"}
    assert effects(one).keys() == {"depth"}
    (gap,) = one.gaps
    assert gap.shares == ()
    text = gap_sentence(gap, result.labels)
    assert "+8.5 points (" in text
    assert "none can be credited: stem and SE changed together" in text


@pytest.mark.parametrize(
    ("name", "stem", "share", "stem_part", "se_part"),
    [
        ("resnet50", "cifar", 0.87, 0.07, 0.02),
        ("se_resnet50", "imagenet", 0.81, 0.08, 0.01),
    ],
)
def test_one_corner_is_enough_for_one_order(tmp_path, name, stem, share, stem_part, se_part):
    """With three corners the gap splits along the path that was trained."""
    write(tmp_path, "resnet50", "imagenet", 0.80)
    write(tmp_path, "se_resnet50", "cifar", 0.89)
    write(tmp_path, name, stem, share)
    (gap,) = attribution(tmp_path).gaps
    shared = {s.name: s.difference.interval.estimate for s in gap.shares}
    assert shared == pytest.approx({"stem": stem_part, "SE": se_part})
    assert "first" in gap.note


def test_recipes_are_a_factor_of_their_own(tmp_path):
    """Two recipes for each of two models: the recipe's effect is the mean over the models."""
    longer = Recipe(name="standard", epochs=3, milestones=())
    for name, plain, better in (("resnet50", 0.80, 0.84), ("se_resnet50", 0.81, 0.87)):
        write(tmp_path, name, "cifar", plain)
        write(tmp_path, name, "cifar", better, recipe=longer)
    found = effects(attribution(tmp_path))
    assert found["recipe"].top1.interval.estimate == pytest.approx(0.05)
    assert found["attention"].top1.interval.estimate == pytest.approx(0.02)
    assert found["attention × recipe"].top1.interval.estimate == pytest.approx(0.02)


def test_nothing_is_attributed_across_data_sets(tmp_path):
    """Two models on different pixels give no effect."""
    write(tmp_path, "resnet50", "cifar", 0.8)
    data = make.dataset(label="Other", digest="c" * 64, num_test=N)
    right = np.arange(N) < 0.9 * N
    make.write_run(tmp_path / "other", right, spec=make.model("se_resnet50"), data=data)
    assert findings(study(load([tmp_path]))).attributions == ()


@pytest.mark.parametrize(("sittings", "known"), [((5, 5), True), ((5, 1), False), ((4, 4), False)])
def test_costs_of_rows_that_took_turns_are_compared_round_by_round(tmp_path, sittings, known):
    """A machine that slows down both rows alike leaves their ratio: 1.10, known to 0.1 %.

    Unless one of the two contexts was timed in fewer than five sittings: no interval then.
    """
    drift = np.exp(np.linspace(0, 1, 20))
    for stem, number in zip(("cifar", "imagenet"), sittings, strict=True):
        for name, call_s in (("resnet50", 0.1), ("se_resnet50", 0.11)):
            write(tmp_path / "runs", name, stem, 0.8)
            for seed in range(number):
                record = make.profile_record(make.model(name, stem), seed=seed, series=stem)
                moved = call_s * drift * (1 + 1e-4 * (name == "resnet50") * (seed - 2))
                times = {"block_s": tuple(moved.tolist())}
                timing = record.timing.model_copy(update=times)
                make.write_profile(tmp_path / "p", record.model_copy(update={"timing": timing}))
    ratio = effects(attribution(tmp_path))["attention"].costs["throughput"]
    assert ratio.estimate == pytest.approx(1 / 1.10, rel=1e-3)
    assert (ratio.high < math.inf and ratio.high / ratio.low < 1.001) is known


def verdict_items(folder, seed_sd=None):
    return dict(lines(findings(study(load([folder])), stated=Stated(seed_sd))))


def test_the_verdict_says_what_se_does_on_average(tmp_path):
    """Over both stems +1.25 points, told before the single pairs."""
    for stem, plain, se in (("imagenet", 0.80, 0.81), ("cifar", 0.88, 0.895)):
        write(tmp_path, "resnet50", stem, plain, seeds=3)
        write(tmp_path, "se_resnet50", stem, se, seeds=3)
    text = verdict_items(tmp_path)["Established:"]
    assert text.startswith("Attention, none → SE: +1.2 points (")
    assert " over 2 pairs, p < 0.001; " in text
    assert "; p after correction for " in text


def test_a_gap_that_is_not_resolved_is_not_split(tmp_path):
    """9 points rest on a stated seed sd of 0.1 points, and are nothing with one of 6."""
    shares = {"imagenet": (0.80, 0.81), "cifar": (0.88, 0.89)}
    for stem, (plain, se) in shares.items():
        write(tmp_path, "resnet50", stem, plain)
        write(tmp_path, "se_resnet50", stem, se)
    for seed_sd, split in ((0.001, True), (0.06, False), (None, False)):
        result = findings(study(load([tmp_path])), stated=Stated(seed_sd))
        (gap,) = result.attributions[0].gaps
        assert bool(gap.shares) is split
        text = gap_sentence(gap, result.labels)
        assert ("explains" in text) is split
        if split:  # 8 of 9 points
            assert "the stem explains +8.0 points" in text
            assert ", 89 % of the gap (86 to 92 %)" in text
        told = "these trained networks" if seed_sd is None else f"seed sd of {100 * seed_sd:.1f}"
        assert told.replace("0.1", "0.10") in text


def test_a_share_of_the_gap_has_the_degrees_of_freedom_of_what_is_left(tmp_path):
    """Images that the stem and the whole gap have in common are not those that its share has."""
    for stem, (plain, se) in {"imagenet": (0.80, 0.81), "cifar": (0.88, 0.89)}.items():
        write(tmp_path, "resnet50", stem, plain)
        write(tmp_path, "se_resnet50", stem, se)
    write(tmp_path, "resnet101", "cifar", 0.85, seeds=3)
    found = findings(study(load([tmp_path])))
    ((gap,),) = (one.gaps for one in found.attributions)
    cells = {(c.model.name, c.model.stem): c.hits for c in found.study.cells}
    arms = [cells[name, stem] for name in ("resnet50", "se_resnet50")
            for stem in ("imagenet", "cifar")]  # fmt: skip
    weights = [8 / 9 - 0.5, 0.5, -0.5, 0.5 - 8 / 9]
    left = accuracy.contrast(arms, weights, gap.total.luck)
    assert left.freedom < 10 < gap.total.freedom
    stem, se = (share.difference for share in gap.shares)
    assert gap.shares[0].of_gap == accuracy.share_of(stem, se, gap.total, left.freedom)


def test_no_chance_is_given_where_the_luck_of_training_is_unknown(tmp_path):
    """One seed of each has no chance of being best, three have, and so has a stated sd."""
    make.write_example(tmp_path / "one", num_test=200, sittings=3)
    make.write_example(tmp_path / "three", num_test=200, seeds=3, sittings=3)
    for folder, seed_sd, given in (
        ("one", None, False),
        ("one", 0.01, True),
        ("three", None, True),
    ):
        items = verdict_items(tmp_path / folder, seed_sd)
        taken = [text for lead, text in items.items() if "to take" in lead]
        assert taken
        assert all(("the luck of training is unknown" not in text) is given for text in taken)
        assert all((" %)" in text and "best with" in text) is given for text in taken)


@pytest.mark.parametrize(("seeds", "sittings"), [(1, 1), (1, 5), (3, 5)])
def test_a_verdict_is_read_in_a_minute(tmp_path, seeds, sittings):
    """Figures and signs aside, 250 words in at most eight lines; the sd is explained once."""
    make.write_example(tmp_path, num_test=200, seeds=seeds, sittings=sittings)
    make.write_run(tmp_path / "g", np.arange(200) < 20, spec=make.model("resnet152"))
    told = lines(findings(study(load([tmp_path])), stated=Stated()))
    assert 5 < len(told) <= 8
    text = " ".join(f"{lead} {text}" for lead, text in told)
    assert len([word for word in text.split() if any(c.isalpha() for c in word)]) <= 250
    assert text.count("models that have several") <= 1


def test_a_verdict_has_eight_lines_scope_first(tmp_path):
    """However much there is to say."""
    make.write_example(tmp_path, num_test=200, seeds=3)
    told = lines(findings(study(load([tmp_path]))))
    assert len(told) <= 8
    assert told[0][0].startswith("Scope, Shapes")
    assert "5,000 training and 200 test images" in told[0][1]
