"""The embedded data set: ten shapes drawn by arithmetic, the same pixels on every machine.

Each image is one large shape of a random colour, place, size and rotation over a shaded ground
with clutter, under noise. Every random draw is an integer of PCG64's raw stream (which numpy
promises never to change) and every pixel follows from it by additions, multiplications, square
roots and comparisons alone, which IEEE 754 fixes to the last bit; sines and cosines are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.data.dataset import Dataset, Split, make_dataset
from bench.data.download import Progress
from bench.errors import UserError
from bench.spec.run import DataSpec

Floats = npt.NDArray[np.floating[Any]]
Outline = Callable[[Floats, Floats], Floats]

NUM_TRAIN = 5000
NUM_TEST = 1000
SEED = 20170905  # the day on which Squeeze-and-Excitation Networks was first submitted
SIZES = (16, 224)
FIELD = 32.0  # lengths below are in 1/32 of the image's side
RADIUS = 10.0, 14.0
MAX_TURN = 40  # degrees, either way
NUM_CLUTTER = 4
CHUNK = 250


def _direction(degrees: float) -> tuple[float, float]:
    # Rounded, because libraries differ in the last bit of a sine.
    angle = math.radians(degrees)
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


DIRECTIONS = np.array([_direction(degrees) for degrees in range(360)], np.float32)


# Outlines: the signed distance to the edge of a shape of radius about 1, negative inside; y points
# down.


def _length(x: Floats, y: Floats) -> Floats:
    length: Floats = np.sqrt(x * x + y * y)
    return length


def _in_both(first: Floats, second: Floats) -> Floats:
    both: Floats = np.maximum(first, second)
    return both


def _in_either(first: Floats, second: Floats) -> Floats:
    either: Floats = np.minimum(first, second)
    return either


def _polygon(x: Floats, y: Floats, num_edges: int, apothem: float, crossed: int = 0) -> Floats:
    """Return the distance to the points that lie beyond ``crossed`` edges at most."""
    normals = (_direction(90 + 360 * k / num_edges) for k in range(num_edges))
    beyond = np.sort(np.stack([x * c + y * s - apothem for c, s in normals]), axis=0)
    distance: Floats = beyond[-1 - crossed]
    return distance


def _circle(x: Floats, y: Floats) -> Floats:
    return _length(x, y) - 0.9


def _ring(x: Floats, y: Floats) -> Floats:
    return abs(_length(x, y) - 0.74) - 0.24


def _half_disc(x: Floats, y: Floats) -> Floats:
    y = y + 0.45
    return _in_both(_length(x, y) - 1, -y)


def _crescent(x: Floats, y: Floats) -> Floats:
    return _in_both(_length(x, y) - 1, 0.85 - _length(x - 0.55, y))


def _triangle(x: Floats, y: Floats) -> Floats:
    return _polygon(x, y, num_edges=3, apothem=0.55)


def _square(x: Floats, y: Floats) -> Floats:
    return _in_both(abs(x), abs(y)) - 0.78


def _bar(x: Floats, y: Floats) -> Floats:
    return _in_both(abs(x) - 1, abs(y) - 0.3)


def _cross(x: Floats, y: Floats) -> Floats:
    return _in_either(_bar(x, y), _bar(y, x))


def _star(x: Floats, y: Floats) -> Floats:
    return _polygon(x, -y, num_edges=5, apothem=0.36, crossed=1)


def _heart(x: Floats, y: Floats) -> Floats:
    square = _in_both(abs(x + y) * 0.7071, abs(x - y) * 0.7071) - 0.55
    lobe = _length(abs(x) - 0.39, y + 0.39) - 0.55
    return _in_either(square, lobe)


OUTLINES: dict[str, Outline] = {
    "circle": _circle,
    "ring": _ring,
    "half_disc": _half_disc,
    "crescent": _crescent,
    "triangle": _triangle,
    "square": _square,
    "bar": _bar,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
}
CLASSES = tuple(OUTLINES)


@dataclass(frozen=True)
class Draws:
    """Random numbers from the raw stream of PCG64."""

    bits: np.random.PCG64

    def integers(self, shape: tuple[int, ...], bound: int) -> npt.NDArray[np.int64]:
        """Return integers in [0, bound)."""
        high = self.bits.random_raw(math.prod(shape)) >> np.uint64(32)
        return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64).reshape(shape)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Floats:
        """Return numbers in [low, high], 65,536 steps apart."""
        steps = self.integers(shape, 1 << 16).astype(np.float32) * 2.0**-16
        return low + steps * (high - low)

    def noise(self, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
        """Return a triangular distribution over -255 … 255: the difference of two bytes."""
        num = math.prod(shape)
        raw = self.bits.random_raw(-(-num // 4)).astype("<u8").view(np.uint8)
        pairs = raw[: 2 * num].reshape(2, *shape).astype(np.int16)
        difference: npt.NDArray[np.int16] = pairs[0] - pairs[1]
        return difference


def load_shapes(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    """Draw the data set at ``spec.image_size`` (16 to 224); it needs no file and no network."""
    smallest, largest = SIZES
    if not smallest <= spec.image_size <= largest:
        raise UserError(
            f"image size {spec.image_size} is not possible for shapes;"
            f" choose from {smallest} to {largest}"
        )
    train = draw_split(NUM_TRAIN, spec.image_size, SEED, progress)
    test = draw_split(NUM_TEST, spec.image_size, SEED + 1, progress)
    return make_dataset("shapes", spec.label or "shapes", train, test, CLASSES)


def draw_split(
    num_images: int, image_size: int, seed: int, progress: Progress | None = None
) -> Split:
    """Draw ``num_images`` images, their classes in equal shares and shuffled.

    The scenes follow from the seed; the image size and the noise over them leave them as they are.
    """
    draws, grain = (Draws(np.random.PCG64([seed, purpose])) for purpose in (0, 1))
    labels = np.arange(num_images) % len(CLASSES)
    labels = labels[np.argsort(draws.bits.random_raw(num_images), kind="stable")]
    images = np.empty((num_images, 3, image_size, image_size), np.uint8)
    for start in range(0, num_images, CHUNK):
        chunk = slice(start, min(start + CHUNK, num_images))
        images[chunk] = _draw_chunk(labels[chunk], image_size, draws, grain)
        if progress:
            progress("drawing shapes", chunk.stop, num_images)
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _draw_chunk(
    labels: npt.NDArray[np.int64], size: int, draws: Draws, grain: Draws
) -> npt.NDArray[np.uint8]:
    num = len(labels)
    ground = draws.uniform((num, 3, 1, 1), 0, 150)
    colour = ground + draws.uniform((num, 3, 1, 1), 60, 105)  # lighter, of another hue
    x, y = _pixel_grid(size)
    image: Floats = ground + _shade(x, y, num, draws)
    for _ in range(NUM_CLUTTER):
        image = _paint_clutter(image, x, y, draws)
    cover = _shape_cover(labels, x, y, draws)[:, None]
    image = image + (colour - image) * cover
    image = _paint_clutter(image, x, y, draws)
    noise = grain.noise(image.shape).astype(np.float32) * 0.14
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _pixel_grid(size: int) -> tuple[Floats, Floats]:
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (FIELD / size) - FIELD / 2
    return centres[None, None, :], centres[None, :, None]


def _shade(x: Floats, y: Floats, num: int, draws: Draws) -> Floats:
    slope = draws.uniform((2, num, 3, 1, 1), -2.0, 2.0)
    shade: Floats = slope[0] * x + slope[1] * y
    return shade


def _paint_clutter(image: Floats, x: Floats, y: Floats, draws: Draws) -> Floats:
    """Paint one small disc or box of any colour anywhere on every image."""
    num = len(image)
    place = draws.uniform((2, num, 1, 1), -FIELD / 2, FIELD / 2)
    radius = draws.uniform((num, 1, 1), 1.0, 2.6)
    round_ = draws.integers((num, 1, 1), 2) == 1
    colour = draws.integers((num, 3, 1, 1), 256).astype(np.float32)
    dx, dy = abs(x - place[0]), abs(y - place[1])
    distance = np.where(round_, _length(dx, dy), _in_both(dx, dy)) - radius
    return image + (colour - image) * _cover(distance, x)[:, None]


def _shape_cover(labels: npt.NDArray[np.int64], x: Floats, y: Floats, draws: Draws) -> Floats:
    """Return how much of every pixel (N, H, W) the shape of each label covers."""
    num = len(labels)
    radius = draws.uniform((num, 1, 1), *RADIUS)
    room = FIELD / 2 - radius
    centre = draws.uniform((2, num, 1, 1), -1.0, 1.0) * room
    turn = DIRECTIONS[draws.integers((num, 1, 1), 2 * MAX_TURN + 1) - MAX_TURN]
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
    u = dx * turn[..., 0] + dy * turn[..., 1]
    v = dy * turn[..., 0] - dx * turn[..., 1]
    distance = np.empty_like(u)
    for label, outline in enumerate(OUTLINES.values()):
        chosen = labels == label
        distance[chosen] = outline(u[chosen], v[chosen])
    return _cover(distance * radius, x)


def _cover(distance: Floats, x: Floats) -> Floats:
    """Return the share of a pixel inside an edge at a signed distance: 1 inside, 0 outside."""
    pixel = FIELD / x.shape[-1]
    cover: Floats = np.clip(0.5 - distance / pixel, 0, 1)
    return cover
