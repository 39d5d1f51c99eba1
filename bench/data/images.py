"""Decode image files to one uint8 tensor, on all cores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bench.data.download import Progress
from bench.errors import UserError
from bench.machine.cores import usable_cores

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Named, because some of Pillow's other readers start programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
CHUNK = 64
MEMORY_SHARE = 0.8  # of what is free


def decode(paths: Sequence[str], size: int, what: str, progress: Progress | None = None) -> Tensor:
    """Return the images of all files as uint8 (N, 3, size, size), RGB.

    An image of another size is scaled until its shorter side is ``size`` (bilinear, antialiased)
    and cut to its middle. UserError names a file that is no whole image or is absurdly large.
    """
    _check_memory(len(paths) * 3 * size * size)
    images = np.empty((len(paths), 3, size, size), np.uint8)
    starts = range(0, len(paths), CHUNK)

    def decode_chunk(start: int) -> int:
        chunk = paths[start : start + CHUNK]
        for index, path in enumerate(chunk, start):
            images[index] = _decode_one(path, size)
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


def _decode_one(path: str, size: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.draft("RGB", (2 * size, 2 * size))  # JPEG: skip detail that scaling would discard
            image = file.convert("RGB")
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # a damaged file can raise any exception
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {why}") from None
