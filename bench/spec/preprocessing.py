"""How an image file becomes what a model is given: resized, cropped, scaled, normalised."""

from __future__ import annotations

from typing import Literal

from bench.spec.values import Frozen, PositiveFloat, PositiveInt

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


class Preprocessing(Frozen):
    """Prepare images as the weights of a model want to see them.

    The shorter side is resized to ``resize_size`` pixels by ``interpolation`` (antialiased), or
    with ``squash`` both sides are, and the centre of the model's image size is cut out. Pixels in
    [0, 1] are then normalised by ``mean`` and ``std`` per channel.
    """

    resize_size: PositiveInt
    resize_mode: Literal["shorter", "squash"] = "shorter"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    def crop_share(self, image_size: int) -> float:
        """Return the share of the resized side that is seen."""
        return image_size / self.resize_size
