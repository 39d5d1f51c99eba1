"""Decode image files to one uint8 tensor, on all cores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import psutil
import torch
from PIL import Image, ImageOps, features
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from bench.data.download import Progress
from bench.errors import UserError
from bench.machine.cores import usable_cores
from bench.spec.preprocessing import Preprocessing

_AVIF = bool(features.check("avif"))  # only some builds of Pillow can
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".png", ".apng", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".avif",) if _AVIF else ()),
)
# Named, because some of Pillow's other readers start programs.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", *(("AVIF",) if _AVIF else ()))
CHUNK = 64
MEMORY_SHARE = 0.8  # of what is free


def decode(
    paths: Sequence[str],
    size: int,
    what: str,
    progress: Progress | None = None,
    preprocessing: Preprocessing | None = None,
) -> Tensor:
    """Return the images of all files as uint8 (N, 3, size, size), RGB.

    Grey of 16 bits and fractions are scaled to bytes, what is transparent lies on white, and a
    camera's note on how it was held is followed. An image of another size is scaled until its
    shorter side is ``size`` (bilinear, antialiased) and cut to its middle. With ``preprocessing``
    files are read, resized and cropped as the library of the weights does it. UserError names a
    file that is no whole image or is absurdly large.
    """
    _check_memory(len(paths) * 3 * size * size)
    images = np.empty((len(paths), 3, size, size), np.uint8)
    starts = range(0, len(paths), CHUNK)

    def decode_chunk(start: int) -> int:
        chunk = paths[start : start + CHUNK]
        for index, path in enumerate(chunk, start):
            images[index] = _decode_one(path, size, preprocessing)
        return start + len(chunk)

    pool = ThreadPoolExecutor(usable_cores())  # Pillow decodes without holding Python's lock
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for done in pool.map(decode_chunk, starts):
                if progress:
                    progress(what, done, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return torch.from_numpy(images)


def _check_memory(num_bytes: int) -> None:
    free = psutil.virtual_memory().available
    if num_bytes > MEMORY_SHARE * free:
        raise UserError(
            f"the images need {num_bytes / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are"
            " free; choose a smaller image size"
        )


def _decode_one(path: str, size: int, preprocessing: Preprocessing | None) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path, formats=FORMATS) as file:
            if preprocessing is None:
                # JPEG: skip detail that scaling would discard
                file.draft("RGB", (2 * size, 2 * size))
                image = _on_white(_as_bytes(_upright(file)))
            else:  # as timm and torchvision open files, so that published figures come back
                image = _prepared(file.convert("RGB"), size, preprocessing)
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # a damaged file can raise any exception
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {why}") from None


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
