"""The luck of training: pooled over models, apart from the noise of single images."""

import math

import numpy as np
import pytest

from bench.stats.accuracy import contrast, difference, unpaired
from bench.stats.luck import Luck, pooled, spread_of, spread_of_shares, stated


def test_pooled_known_answer():
    """Within (1, 3) and (10, 12, 14) it is √((2 + 8) / 3) with three degrees of freedom."""
    found = pooled([spread_of_shares([1.0, 3.0]), spread_of_shares([10.0, 12.0, 14.0])])
    assert (found.sd, found.freedom) == (pytest.approx(math.sqrt(10 / 3)), 3)
    assert pooled([]) is None


def test_the_noise_of_single_images_is_told_from_luck():
    """Independent images, 30 % wrong: all of the spread of seeds is noise, √(0.21 / N)."""
    arm = np.random.default_rng(0).random((200, 1000)) < 0.7
    luck = pooled([spread_of(arm)])
    assert luck.noise == pytest.approx(0.21 / 1000, rel=0.02)
    assert luck.beyond_images < 0.3 * luck.sd
    moved = np.arange(1000) < 700 + 10 * np.random.default_rng(1).standard_normal((200, 1))
    assert pooled([spread_of(moved)]).beyond_images == pytest.approx(0.01, rel=0.15)


def test_luck_enters_as_often_as_there_are_seeds():
    """Σ w² / S of its square: one seed against three is √(1 + 1/3) of it."""
    right = np.arange(4000) < 3000
    one, three = right[None], np.stack([right, right, right])
    found = contrast([one, three], [-1.0, 1.0], stated(0.01))
    assert found.error == pytest.approx(0.01 * math.sqrt(4 / 3), rel=1e-6)
    assert found.freedom == pytest.approx(4000, rel=1) or found.freedom > 1000
    pool = contrast([one, one], [-1.0, 1.0], Luck(0.01, 4.0))
    assert pool.freedom == pytest.approx(4)


def test_arms_with_seeds_of_their_own_do_not_need_others():
    """Three seeds each: their own spreads, whatever luck is handed in."""
    draw = np.random.default_rng(2)
    arms = [draw.random((3, 500)) < share for share in (0.7, 0.8)]
    assert difference(*arms, stated(0.5)) == difference(*arms)


def test_counts_alone_take_the_luck_beside_the_images():
    """√(2 · 0.01² + 2 · 0.8 · 0.2 / 2,000) for one seed each; infinite degrees of freedom."""
    found = unpaired([(1600, 2000)], [(1600, 2000)], stated(0.01))
    assert found.error == pytest.approx(math.sqrt(2 * 0.01**2 + 0.32 / 2000))
    assert found.p == 1.0
    assert unpaired([(1600, 2000)], [(1600, 2000)]).p is None
