"""Decode an image, whatever kind it is of, to bytes of RGB."""

from __future__ import annotations

import io
import os
import stat

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, features
from torchvision.transforms import InterpolationMode, functional

from bench.spec.preprocessing import Preprocessing

_AVIF = bool(features.check("avif"))  # only some builds of Pillow can
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".png", ".apng", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".avif",) if _AVIF else ()),
)
# Named, because some of Pillow's other readers start programs.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", *(("AVIF",) if _AVIF else ()))
Encoded = str | bytes | Image.Image  # a path, what a file holds, or what a library has read


class Unreadable(Exception):
    """Say in one line why something is no whole image."""


def read_image(
    encoded: Encoded, size: int, preprocessing: Preprocessing | None = None
) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 (3, size, size), RGB.

    Grey of 16 bits and fractions are scaled to bytes, what is transparent lies on white, and a
    camera's note on how it was held is followed. An image of another size is scaled until its
    shorter side is ``size`` (bilinear, antialiased) and cut to its middle. With ``preprocessing``
    it is read, resized and cropped as the library of the weights does it. Raises `Unreadable`.
    """
    try:
        with _opened(encoded) as file:
            if preprocessing is None:
                # JPEG: skip detail that scaling would discard
                file.draft("RGB", (2 * size, 2 * size))
                image = _on_white(_as_bytes(_upright(file)))
            else:  # as timm and torchvision open files, so that published figures come back
                image = _prepared(_as_bytes(file).convert("RGB"), size, preprocessing)
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # a damaged file can raise any exception
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def _opened(encoded: Encoded) -> Image.Image:
    if isinstance(encoded, Image.Image):
        return encoded
    if isinstance(encoded, bytes):
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    if not stat.S_ISREG(os.stat(encoded).st_mode):  # a pipe or a terminal is waited for for ever
        raise ValueError("it is no regular file")
    return Image.open(encoded, formats=FORMATS)


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF data asks for; damaged EXIF data asks for nothing."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow's reader of EXIF raises anything
        return image


def _as_bytes(image: Image.Image) -> Image.Image:
    """Return grey of more than 8 bits in 8: Pillow's own conversion would clip it to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    scaled = np.rint(values * (255 / _white(image, values)))
    return Image.fromarray(scaled.astype(np.uint8))


def _white(image: Image.Image, values: npt.NDArray[np.float64]) -> float:
    """Return the value that stands for white; ValueError when the range is none of the usual.

    Fractions reach 1, 255 or 65,535; integers, where the format does not say how many bits they
    have, 255 or 65,535.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # NaN is neither
        raise ValueError(f"its values reach from {low:g} to {high:g}, not from 0 to 65535 at most")
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        return 65535
    choices = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    return next(white for white in choices if high <= white)


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image in RGB, as it looks on a white page."""
    if "transparency" not in image.info and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return image.convert("RGB")
    seen = image.convert("RGBA")
    page = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(page, seen).convert("RGB")


def _prepared(image: Image.Image, size: int, how: Preprocessing) -> Image.Image:
    """Resize and crop an image as the weights' own transforms do, by the same library."""
    side = [how.resize_size, how.resize_size] if how.resize_mode == "squash" else how.resize_size
    resized = functional.resize(image, side, InterpolationMode(how.interpolation))
    cropped: Image.Image = functional.center_crop(resized, [size, size])
    return cropped
