"""Looking again and again: false answers stay rare, true ones are found."""

import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest
from scipy import special

from bench.stats.accuracy import difference
from bench.stats.sequential import at_look, half_width, next_look, step

MOST = 18
IMAGES = 1000
SPREAD = {"images": 0.8, "taste": 0.3, "luck": 0.1}  # of the probit of a hit


def series(gap, trials, wanted, counted_as=lambda look: look, gives_up=True):
    """Return how series of looks end, and how many had an interval without the truth.

    A hit is as likely as the probit of skill, the image, how the model likes it, and the luck of
    the training say; the truth is the difference over all images and all trainings. ``counted_as``
    is the look that a look counts as; a series that ``gives_up`` ends where images hide the answer.
    """
    scale = math.sqrt(1 + sum(spread**2 for spread in SPREAD.values()))
    truth = special.ndtr((1 + gap) / scale) - special.ndtr(1 / scale)
    ends, missed = Counter(), 0
    for trial in range(trials):
        draw = np.random.default_rng(trial)
        images = SPREAD["images"] * draw.standard_normal(IMAGES)

        def arm(skill, draw=draw, images=images):
            liked = images + SPREAD["taste"] * draw.standard_normal(IMAGES)
            luck = SPREAD["luck"] * draw.standard_normal((MOST, 1))
            return draw.random((MOST, IMAGES)) < special.ndtr(skill + liked + luck)

        one, two = arm(1.0), arm(1.0 + gap)
        seeds, look, outside = 3, 1, False
        while True:
            found = difference(one[:seeds], two[:seeds])
            told = found.interval.estimate, found.error, found.freedom
            counted = counted_as(look)
            outside |= abs(told[0] - truth) > half_width(*told[1:], counted)
            hidden = found.image_error if gives_up else 0.0
            end = step(*told, hidden, wanted=wanted, look=counted)
            if end != "go on" or seeds == MOST:
                break
            seeds, look = next_look(seeds, MOST), look + 1
        ends[end] += 1
        missed += outside
    return {end: number / trials for end, number in ends.items()}, missed / trials


def test_the_parts_of_the_level_add_up_to_it():
    """0.05 of 0.0304 at the first look, a quarter of that at the second, … in all 0.05."""
    spent = [0.05 / at_look(1e-9, look) * 1e-9 for look in range(1, 20_000)]
    assert spent[0] == pytest.approx(0.05 * 6 / math.pi**2)
    assert spent[0] / spent[1] == pytest.approx(4)
    assert sum(spent) == pytest.approx(0.05, abs=1e-5)


def test_an_interval_is_as_wide_as_its_part_of_the_level():
    """6 / π² of 5 %, a quarter of it at the second look, half of that for each of two."""
    part = 0.05 * 6 / math.pi**2
    one, two = (-NormalDist().inv_cdf(level / 2) for level in (part, part / 4 / 2))
    assert half_width(1.0, math.inf, 1) == pytest.approx(one)
    assert half_width(2.0, math.inf, 2, family=2) == pytest.approx(2 * two)
    assert half_width(0.0, 4.0, 1) == 0.0


TRIALS = pytest.mark.parametrize(
    "trials", [250, pytest.param(5000, marks=pytest.mark.slow)], ids=["short", "long"]
)


@TRIALS
def test_equal_models_are_rarely_called_different_however_often_one_looks(trials):
    """Five looks at most at the same growing arms: 5 % in all, plus three standard errors."""
    ends, missed = series(0.0, trials, wanted=1e-6, gives_up=False)
    assert ends.get("decided", 0) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert missed == ends.get("decided", 0)


def test_looks_that_spend_nothing_err_more_often_than_said():
    """Every look counted as the first: what the spending is there for."""
    ends, _ = series(0.0, 400, wanted=1e-6, counted_as=lambda look: 1, gives_up=False)
    assert ends["decided"] > 0.06


@TRIALS
@pytest.mark.parametrize("gap", [0.05, 0.2])
def test_the_intervals_hold_the_truth_whatever_made_one_stop(trials, gap):
    """Of all series at most 5 % have a look whose interval leaves the truth out."""
    _, missed = series(gap, trials, wanted=0.03)
    assert missed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_true_difference_ends_the_series():
    """Five points are found in nine of ten series."""
    ends, _ = series(0.35, 250, wanted=0.001)
    assert ends["decided"] >= 0.9


def test_looks_grow_by_half():
    """3, 5, 8, 12, 18, and the last at the most that are allowed."""
    seeds = [3]
    while seeds[-1] < 20:
        seeds.append(next_look(seeds[-1], 20))
    assert seeds == [3, 5, 8, 12, 18, 20]
    with pytest.raises(ValueError, match="counted from 1"):
        at_look(0.01, 0)


@pytest.mark.parametrize(
    ("estimate", "error", "image_error", "expected"),
    [
        (3.0, 1.0, 0.1, "decided"),  # the interval is ± 2.17
        (-3.0, 1.0, 0.1, "decided"),
        (0.1, 0.2, 0.1, "narrow"),
        (0.1, 1.0, 0.1, "go on"),
        (0.1, 1.0, 0.3, "hidden"),  # ± 0.8 by the second look, of endlessly many seeds
        (2.0, 1.0, 0.3, "go on"),  # but a sign may yet be found
        (0.0, 0.0, 0.0, "narrow"),
    ],
)
def test_what_a_look_tells(estimate, error, image_error, expected):
    found = step(estimate, error, math.inf, image_error, wanted=0.5, look=1)
    assert found == expected
