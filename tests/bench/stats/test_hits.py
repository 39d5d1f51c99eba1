"""One bit an image, through text and back."""

from __future__ import annotations

import numpy as np
import pytest

from bench.errors import UserError
from bench.stats.hits import pack, unpack


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 1000])
def test_hits_come_back_as_they_went(num_images: int) -> None:
    hits = np.random.default_rng(num_images).random(num_images) < 0.5
    assert unpack(pack(hits), num_images).tolist() == hits.tolist()


def test_the_first_image_is_the_highest_bit() -> None:
    assert pack(np.array([True] + [False] * 7)) == "gA=="  # 0x80


@pytest.mark.parametrize(("text", "said"), [("gA==", "1 bytes long"), ("?", "not base64")])
def test_hits_of_another_number_of_images_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        unpack(text, 9)
