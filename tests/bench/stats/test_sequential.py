"""Looking again and again: false answers stay rare, true ones are found."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats.sequential import at_look, seeds_at_look, step


def series(shift: float, trials: int, looks: int = 6) -> float:
    """Return the share of series of looks in which two models are called different."""
    draw, most = np.random.default_rng(0), seeds_at_look(looks)
    one = draw.standard_normal((trials, most))
    two = shift + draw.standard_normal((trials, most))
    found = np.zeros(trials, bool)
    for look in range(1, looks + 1):
        seeds = seeds_at_look(look)
        p = scipy_stats.ttest_ind(one[:, :seeds], two[:, :seeds], axis=1, equal_var=False).pvalue
        found |= np.array([at_look(float(value), look) < 0.05 for value in p])
    return float(found.mean())


def test_the_parts_of_the_level_add_up_to_it():
    """0.05 of 0.0304 at the first look, a quarter of that at the second, … in all 0.05."""
    spent = [0.05 / at_look(1e-9, look) * 1e-9 for look in range(1, 20_000)]
    assert spent[0] == pytest.approx(0.05 * 6 / math.pi**2)
    assert spent[0] / spent[1] == pytest.approx(4)
    assert sum(spent) == pytest.approx(0.05, abs=1e-5)


def test_equal_models_are_rarely_called_different_however_often_one_looks():
    """Six looks at the same growing arms: at most 5 %; uncorrected it would be 13 %."""
    assert series(0.0, 4000) <= 0.05


def test_a_true_difference_ends_the_series():
    """One and a half standard deviations are found in nine of ten series."""
    assert series(1.5, 1000) >= 0.9


def test_looks_grow_by_half():
    """3, 5, 8, 12, 18, 27 seeds."""
    assert [seeds_at_look(look) for look in range(1, 7)] == [3, 5, 8, 12, 18, 27]
    with pytest.raises(ValueError, match="counted from 1"):
        at_look(0.01, 0)


@pytest.mark.parametrize(
    ("p", "p_same", "look", "expected"),
    [
        (0.01, None, 1, "answered"),
        (0.01, None, 3, "go on"),  # 0.01 counts 0.15 by the third look
        (0.5, 0.001, 1, "answered"),
        (0.5, 0.5, 1, "go on"),
        (0.5, None, 3, "give up"),  # the fourth look would need 12 seeds
    ],
)
def test_what_to_do_after_a_look(p, p_same, look, expected):
    """With ten seeds a model at most."""
    most = 10 if expected != "go on" else 30
    assert step(p, p_same, look, most) == expected
