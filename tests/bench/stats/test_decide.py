"""Corrected tests, equivalence, power, and what they allow to be said."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import decide
from bench.stats.accuracy import has_learnt


def test_holm_known_answer():
    """0.01, 0.04, 0.03, 0.005 become 0.03, 0.06, 0.06, 0.02 (Holm's step-down)."""
    adjusted = decide.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert decide.holm([]) == []
    assert decide.holm([0.6, 0.7]) == [1.0, 1.0]


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    """0.3 with a standard error of 0.2 and a margin of 1: t = 0.7 / 0.2 = 3.5 on the near side."""
    expected = scipy_stats.t.sf(3.5, 9)
    assert decide.equivalence(0.3, 0.2, 9, 1.0) == pytest.approx(expected)
    assert decide.equivalence(-0.3, 0.2, 9, 1.0) == pytest.approx(expected)
    assert decide.equivalence(1.3, 0.2, 9, 1.0) > 0.5
    assert decide.equivalence(0.0, math.inf, 9, 1.0) == 1.0
    assert decide.equivalence(0.0, 0.2, 9, 0.0) == 1.0


def test_equivalence_errs_in_at_most_5_percent_on_the_margin():
    """True difference exactly on the margin, ten samples: called the same in about 5 of 100."""
    draw = np.random.default_rng(1).normal(0.5, 1.0, (4000, 10))
    error = draw.std(axis=1, ddof=1) / math.sqrt(10)
    called = [
        decide.equivalence(float(m), float(e), 9, 0.5) < 0.05
        for m, e in zip(draw.mean(axis=1), error, strict=True)
    ]
    assert np.mean(called) <= 0.06


@pytest.mark.parametrize(
    ("estimate", "p", "p_same", "expected"),
    [
        (1.0, 0.01, 0.9, "more"),
        (-1.0, 0.01, None, "less"),
        (0.1, 0.6, 0.01, "same"),
        (0.1, 0.6, 0.2, "not resolved"),
        (0.1, 0.6, None, "not resolved"),
        (5.0, None, None, "not resolved"),
        (0.1, 0.01, 0.01, "more"),
    ],
)
def test_what_two_tests_allow_to_be_said(estimate, p, p_same, expected):
    """Not finding a difference is not finding that there is none."""
    assert decide.finding(estimate, p, p_same) == expected


def test_seeds_needed_known_answers():
    """One standard deviation needs 17 seeds a model, half of one 64 (Cohen 1988, table 2.4.1)."""
    assert decide.seeds_needed(0.002, 0.002) == 17
    assert decide.seeds_needed(0.002, 0.001) == 64
    assert decide.seeds_needed(0.002, 0.1) == 2
    assert decide.seeds_needed(0.002, 0.0) is None
    assert decide.seeds_needed(0.002, 0.002, family=15) > 25


def test_no_number_of_seeds_finds_what_the_images_hide():
    """0.2 points below an error of 0.2 points from the images: a z of one at best."""
    assert decide.seeds_needed(0.002, 0.002, image_error=0.002) is None
    assert decide.seeds_needed(0.002, 0.002, image_error=0.0002) == 18


@pytest.mark.parametrize(("effect", "family"), [(1.0, 1), (3.0, 1), (1.0, 15), (2.0, 15)])
def test_seeds_needed_gives_the_promised_power(effect, family):
    """With that many seeds Welch's t at the family's level finds it in 80 of 100 or more."""
    count = decide.seeds_needed(1.0, effect, family)
    draw = np.random.default_rng(3)
    first = draw.standard_normal((6000, count))
    second = effect + draw.standard_normal((6000, count))
    p = scipy_stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue
    found = (p < 0.05 / family).mean()
    assert found >= 0.78
    fewer = decide.power(count - 1, effect, level=0.05 / family) if count > 2 else 0.0
    assert fewer < 0.8


@pytest.mark.parametrize(
    ("correct", "loss", "learnt"),
    [
        (100, 2.0, False),  # 10 % of ten classes
        (115, 2.2, False),  # its interval reaches down to 10 %
        (150, 2.2, True),
        (150, 3.0, False),  # worse than a uniform guess says, and hardly better than chance
        (600, 3.0, True),  # overconfident, but it has learnt
        (20, 2.0, False),
    ],
)
def test_a_model_has_learnt_when_it_beats_guessing(correct, loss, learnt):
    """Of 1,000 images of ten classes; a uniform guess has a loss of 2.30."""
    assert has_learnt(correct, 1000, 10, loss) is learnt


@pytest.mark.parametrize(
    ("correct", "classes", "learnt"), [(950, 2, True), (600, 2, False), (20, 1000, True)]
)
def test_overconfidence_is_no_failure_to_learn_whatever_the_number_of_classes(
    correct, classes, learnt
):
    """With a loss above that of a uniform guess the odds must be twice those of one."""
    assert has_learnt(correct, 1000, classes, 1.2 * math.log(classes)) is learnt
