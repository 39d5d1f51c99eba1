"""Which models are compared, how the verdict reads, and what is withheld."""

import json

import numpy as np
import pytest
import record_factory as make

from bench.report.derive.conditions import Mismatch
from bench.report.derive.findings import findings
from bench.report.derive.pairs import seeds_wanted
from bench.report.derive.seeds import Stated
from bench.report.page.verdict import lines
from bench.report.page.wording import verdict
from bench.report.read.load import load
from bench.report.read.study import study
from bench.spec.recipe import Recipe
from bench.stats.decide import seeds_needed

N = 2000


def hits(share: float, lost: int = 0, won: int = 0) -> np.ndarray:
    """Return N hits at ``share``, then ``lost`` of them turned wrong and ``won`` others right."""
    right = np.arange(N) < share * N
    right[:lost] = False
    right[round(share * N) : round(share * N) + won] = True
    return right


def found(folder, force=False, seed_sd=0.002, margin=None):
    return findings(study(load([folder])), force, Stated(seed_sd, margin))


def test_a_clear_difference_is_a_verdict_with_its_interval(tmp_path):
    """80 images lost and 180 won of 2,000 is +5.0 points, resting on the stated seed sd."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 80, 180), spec=make.model("se_resnet50"))
    result = found(tmp_path)
    (pair,) = result.pairs.pairs
    assert pair.factors == ("attention",)
    assert pair.difference.interval.estimate == pytest.approx(0.05)
    assert pair.resolved
    text = verdict(pair, result.labels)
    assert text.startswith("se_resnet50 is better than resnet50 by 5.0 points (")
    assert "one seed, resting on the stated seed sd of 0.20 points" in text
    assert "seeds a model" not in text
    # √(2 · 0.2² points² + var(difference of images) / 2,000), the normal's 1.96 of it.
    images = (260 / N - 0.05**2) / N
    half = 1.96 * (2 * 0.002**2 + images) ** 0.5
    assert pair.difference.interval.high - 0.05 == pytest.approx(half, rel=2e-3)


def test_with_one_seed_and_nothing_known_of_its_luck_no_model_is_judged(tmp_path):
    """The same 5 points are those of two trained networks: no p, no verdict, no number of seeds."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 80, 180), spec=make.model("se_resnet50"))
    result = found(tmp_path, seed_sd=None)
    (pair,) = result.pairs.pairs
    assert (pair.difference.p, pair.p_family, pair.resolved) == (None, None, False)
    text = verdict(pair, result.labels)
    assert text.startswith("these two trained networks: se_resnet50 against resnet50, +5.0 points")
    assert "no verdict on the models" in text
    assert "better" not in text
    assert "p " not in text.partition(";")[2]


def test_the_luck_of_models_with_several_seeds_is_taken_for_those_with_one(tmp_path):
    """Three seeds of one model at 79, 80 and 81 %: sd 1.0 points with two degrees of freedom."""
    for seed, share in enumerate((0.79, 0.80, 0.81)):
        right = hits(share)
        make.write_run(tmp_path / str(seed), right, spec=make.model("resnet50"), seed=seed)
    make.write_run(tmp_path / "b", hits(0.85), spec=make.model("se_resnet50"))
    result = found(tmp_path, seed_sd=0.0001)
    (pair,) = result.pairs.pairs
    luck = pair.difference.luck
    assert (luck.sd, luck.freedom, luck.stated) == (pytest.approx(0.01), 2, False)
    # 5 points over √(1.0² · (1 + 1/3) + 0.41²) = 1.23 is t = 4.08 with 2.5 degrees of freedom.
    assert pair.difference.error == pytest.approx(0.0123, abs=1e-4)
    assert pair.difference.p == pytest.approx(0.036, abs=0.002)
    assert "seed sd of 1.0 points of models that have several" in verdict(pair, result.labels)


def test_the_same_is_what_an_equivalence_test_within_the_margin_says(tmp_path):
    """0.2 points with a standard error of 0.3 lie within 1 point, not within 0.5."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 10, 14), spec=make.model("se_resnet50"))
    for margin, finding in ((0.01, "same"), (0.005, "not resolved"), (None, "not resolved")):
        result = found(tmp_path, margin=margin)
        (pair,) = result.pairs.pairs
        assert pair.finding == finding
        text = verdict(pair, result.labels, margin)
        assert ("are the same within ±1.0 points" in text) is (finding == "same")


def test_what_has_not_learnt_is_compared_with_nothing(tmp_path):
    """A model at chance, 10 % of ten classes, is in no pair, front or effect, and said to be."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.82), spec=make.model("se_resnet50"))
    make.write_run(tmp_path / "c", hits(0.105), spec=make.model("resnet101"))
    result = found(tmp_path)
    assert [p.second.model.name for p in result.pairs.pairs] == ["se_resnet50"]
    names = {p.cell.model.name for _, front in result.fronts for p in front.places}
    assert names == {"resnet50", "se_resnet50"}
    assert {e.term.name for one in result.attributions for e in one.effects} == {"attention"}
    assert "resnet101: no better than guessing" in dict(lines(result))["Doubts:"]


def test_a_small_difference_is_not_resolved(tmp_path):
    """10 against 14 images is noise, and the verdict says how many seeds it would take."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 10, 14), spec=make.model("se_resnet50"))
    result = found(tmp_path)
    text = verdict(result.pairs.pairs[0], result.labels)
    assert "not resolved, +0.20 points (" in text
    # The images' error of 0.24 points stays, so that no number of seeds finds 0.2 points.
    assert "seeds a model" not in text
    make.write_run(tmp_path / "b", hits(0.8, 1, 21), spec=make.model("se_resnet50"))
    result = found(tmp_path, seed_sd=0.004)
    wanted = seeds_wanted(result.pairs.pairs[0])
    image_error = ((22 / N - 0.01**2) / (N - 1)) ** 0.5
    assert wanted == seeds_needed(0.004, 0.01, 1, image_error) == 5
    text = verdict(result.pairs.pairs[0], result.labels)
    assert f"a difference of this size needs about {wanted} seeds a model" in text


def test_a_worse_model_is_not_called_better(tmp_path):
    """When the SE model loses, the sentence has the plain model as its subject."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 180, 80), spec=make.model("se_resnet50"))
    result = found(tmp_path)
    text = verdict(result.pairs.pairs[0], {c.key: c.model.name for c in result.study.cells})
    assert text.startswith("resnet50 is better than se_resnet50 by 5.0 points (")


def test_models_that_differ_in_two_things_credit_neither(tmp_path):
    """The confounded comparison is marked as what it is."""
    make.write_run(tmp_path / "a", hits(0.7), spec=make.model("resnet50", "imagenet"))
    make.write_run(tmp_path / "b", hits(0.8), spec=make.model("se_resnet50", "cifar"))
    result = found(tmp_path)
    (pair,) = result.pairs.pairs
    assert pair.factors == ("stem", "attention")
    assert "stem and attention differ, so neither alone is credited" in verdict(pair, result.labels)


OTHER = {
    "recipe": {"recipe": Recipe(name="standard", epochs=3, milestones=())},
    "epochs": {"recipe": Recipe(name="quick", epochs=4, milestones=())},
    "lr": {"recipe": Recipe(name="quick", epochs=3, milestones=(), lr=0.05)},
    "precision": {"precision": "bf16"},
    "torch": {"env": make.environment(packages={"torch": "2.6.0", "torchvision": "0.29.1"})},
}


@pytest.mark.parametrize("condition", OTHER)
def test_unequal_conditions_withhold_the_difference(tmp_path, condition):
    """What differs is named in place of a number; --force gives the number with the mark."""
    make.write_run(tmp_path / "a", hits(0.7), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8), spec=make.model("se_resnet50"), **OTHER[condition])
    result = found(tmp_path)
    assert result.pairs.pairs == ()
    (pair,) = result.pairs.withheld
    assert condition in [m.condition for m in pair.mismatches]
    assert pair.difference is None
    assert "are not compared" in verdict(pair, result.labels)
    forced = found(tmp_path, force=True)
    (pair,) = forced.pairs.pairs
    assert pair.difference.interval.estimate == pytest.approx(0.1)
    assert not pair.resolved
    assert "NOT COMPARABLE" in verdict(pair, forced.labels)


def test_the_guard_says_what_differs_in_words():
    """A mismatch reads as condition and both values."""
    assert str(Mismatch("epochs", "3", "100")) == "epochs 3 / 100"


def test_other_pixels_are_never_compared_even_when_forced(tmp_path):
    """A lone run on another data set is named as not comparable."""
    make.write_run(tmp_path / "a", hits(0.7), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8), spec=make.model("se_resnet50"))
    data = make.dataset(label="Shapes", digest="b" * 64, num_test=N)
    make.write_run(tmp_path / "c", hits(0.9), spec=make.model("resnet101"), data=data)
    result = found(tmp_path, force=True)
    assert len(result.pairs.pairs) == 1
    (pair,) = result.pairs.withheld
    assert [m.condition for m in pair.mismatches] == ["pixels"]
    (aside,) = result.set_aside
    assert aside.path.endswith("c/run.json")
    assert "from another data set (Shapes, bbbbbbbb)" in aside.reason


def test_seeds_are_pooled_into_cells(tmp_path):
    """Three seeds of two models give one pair by their own spreads, not exploratory."""
    draw = np.random.default_rng(0)
    for seed in range(3):
        for name, share in (("resnet50", 0.75), ("se_resnet50", 0.8)):
            right = draw.random(N) < share
            make.write_run(tmp_path / f"{name}{seed}", right, spec=make.model(name), seed=seed)
    (pair,) = found(tmp_path).pairs.pairs
    assert pair.difference.method == "t over seeds and images"
    assert not pair.difference.exploratory
    assert pair.resolved


def test_without_predictions_the_difference_is_unpaired(tmp_path):
    """Counts alone still give an interval, Newcombe's, said so."""
    data = make.dataset(num_test=N)
    make.write_run(tmp_path / "a", spec=make.model("resnet50"), correct=1600, data=data)
    make.write_run(tmp_path / "b", spec=make.model("se_resnet50"), correct=1700, data=data)
    (pair,) = found(tmp_path, seed_sd=None).pairs.pairs
    assert pair.difference.method == "these networks, unpaired, Newcombe's interval"
    # Newcombe 1998, method 10: 0.05 with 0.80 (0.78188, 0.81695) and 0.85 (0.83368, 0.86500).
    assert pair.difference.interval.low == pytest.approx(0.05 - 0.02356, abs=2e-4)
    assert pair.difference.interval.high == pytest.approx(0.05 + 0.02352, abs=2e-4)


def test_the_family_is_corrected(tmp_path):
    """Four models make six comparisons: each p-value grows, none beyond 1."""
    for number, name in enumerate(("resnet18", "resnet34", "resnet50", "resnet101")):
        right = hits(0.8, 10 * number, 14 * number)
        make.write_run(tmp_path / name, right, spec=make.model(name))
    pairs = found(tmp_path).pairs.pairs
    assert len(pairs) == 6
    assert all(p.difference.p <= p.p_family <= 1 for p in pairs)
    assert {p.family_size for p in pairs} == {6}


def test_many_models_are_compared_in_a_readable_number_of_pairs(tmp_path):
    """Of 20 models' 190 pairs, those that differ in one thing or involve the best remain."""
    for number in range(20):
        spec = make.model(f"net{number}")
        make.write_run(tmp_path / str(number), hits(0.5 + number / 50), spec=spec)
    pairs = found(tmp_path).pairs
    assert len(pairs.pairs) == 60
    assert pairs.num_left_out == 130


def test_runs_that_hold_images_out_are_not_compared_with_those_that_do_not(tmp_path):
    """A tenth of the training images held out is named as what differs; so is another loop."""
    plain, apart = make.model("resnet50"), make.model("se_resnet50")
    make.write_run(tmp_path / "a", hits(0.8), spec=plain)
    path = make.write_run(tmp_path / "b", hits(0.8, 80, 180), spec=apart)
    spec = json.loads(path.read_text())["spec"] | {"val_split": 0.1, "engine": "plain"}
    make.damage(path, spec=spec)
    (pair,) = found(tmp_path).pairs.withheld
    assert pair.mismatches == (
        Mismatch("held-out share", "0.0", "0.1"),
        Mismatch("training loop", "fast", "plain"),
    )


def test_an_interval_without_zero_that_correction_undoes_is_explained(tmp_path):
    """p = 0.027 alone is 0.05 in a family of three: not resolved, and the verdict says why."""
    make.write_run(tmp_path / "a", hits(0.8), spec=make.model("resnet50"))
    make.write_run(tmp_path / "b", hits(0.8, 30, 50), spec=make.model("se_resnet50"))
    make.write_run(tmp_path / "c", hits(0.8, 29, 29), spec=make.model("resnet101"))
    result = found(tmp_path, seed_sd=0.0005)
    pair = next(p for p in result.pairs.pairs if p.factors == ("attention",))
    # √(2 · 0.05² + 0.447²) points: t = 2.21 with hardly any luck of training.
    assert pair.difference.p == pytest.approx(0.027, abs=1e-3)
    assert pair.difference.interval.low > 0
    text = verdict(pair, result.labels)
    assert "not resolved, +1.0 points (" in text
    assert "this interval alone leaves 0 out, the corrected test does not" in text
