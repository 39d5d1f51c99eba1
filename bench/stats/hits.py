"""One bit an image: which images of a test set a model gets right, as text that fits a record."""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError

Hits = NDArray[np.bool_]


def pack(hits: Hits) -> str:
    """Return hits (N,) as base64 of N bits, the first image in the highest bit of a byte."""
    return base64.b64encode(np.packbits(hits).tobytes()).decode("ascii")


def unpack(text: str, num_images: int) -> Hits:
    """Return the hits (N,) that `pack` wrote; UserError where they are not of so many images."""
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError):
        raise UserError("the hits are not base64") from None
    if len(packed) != -(-num_images // 8):
        raise UserError(f"the hits of {num_images} images are {len(packed)} bytes long")
    return np.unpackbits(packed, count=num_images).astype(np.bool_)
