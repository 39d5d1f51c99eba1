"""Convolutions as products of matrices, which a CPU computes faster where feature maps are small.

In channels_last a 1×1 convolution is one product: pixels by channels. So is a convolution whose
kernel covers the whole map wherever it stands, as a 3×3 with padding does on 2×2 and 1×1 maps: a
fully connected layer, of whose kernel only the taps inside of the map are used. The last stages of
an ImageNet network see such maps when images are 32×32, and oneDNN's kernels, forward and backward,
are made for larger ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def able_convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a model that may be products, which their maps' size decides."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d) and _is_able(m)]


@contextlib.contextmanager
def as_products(convolutions: Sequence[nn.Conv2d]) -> Iterator[None]:
    """Compute convolutions as products inside the block, where they are some.

    Their parameters, and so gradients and weights files, stay what they are; sums are rounded in
    another order.
    """
    compute_as_products(convolutions)
    try:
        yield
    finally:
        for conv in convolutions:
            del conv.__dict__["forward"]


def compute_as_products(convolutions: Sequence[nn.Conv2d]) -> None:
    """Let convolutions compute as inside `as_products` from now on."""
    for conv in convolutions:
        # Not by setattr: Module's own would search parameters, buffers and children first.
        conv.__dict__["forward"] = partial(convolve, conv)


def _is_able(conv: nn.Conv2d) -> bool:
    return (
        type(conv) is nn.Conv2d  # a subclass may compute something else
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and "forward" not in conv.__dict__
    )


def convolve(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Return what ``conv`` makes of images (B, C, H, W): as a product if it is one, by itself else.

    Products come out in channels_last.
    """
    if conv.kernel_size == (1, 1) and conv.padding == (0, 0):
        down, right = conv.stride
        return _multiply(conv, images[:, :, ::down, ::right], conv.weight.flatten(1))
    rows, columns = (_windows(conv, images.shape[2 + axis], axis) for axis in (0, 1))
    if not rows or not columns:
        return nn.Conv2d.forward(conv, images)
    # (positions, C_out, H, W, C): a row for each output, in the order of the map's memory.
    taps = [conv.weight[:, :, row, column] for row in rows for column in columns]
    matrix = torch.stack([tap.permute(0, 2, 3, 1) for tap in taps]).flatten(2).flatten(0, 1)
    bias = None if conv.bias is None else conv.bias.repeat(len(taps))
    outputs = F.linear(images.permute(0, 2, 3, 1).flatten(1), matrix, bias)
    maps = outputs.view(len(images), len(rows), len(columns), conv.out_channels)
    return maps.permute(0, 3, 1, 2)


def _multiply(conv: nn.Conv2d, images: Tensor, matrix: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    maps = F.linear(pixels, matrix, conv.bias).view(batch, height, width, conv.out_channels)
    return maps.permute(0, 3, 1, 2)


def _windows(conv: nn.Conv2d, size: int, axis: int) -> list[slice]:
    """Return the taps that lie on a map of ``size`` pixels, for each place of the kernel.

    None where some place leaves a pixel out.
    """
    kernel, stride, padding = conv.kernel_size[axis], conv.stride[axis], int(conv.padding[axis])
    places = (size + 2 * padding - kernel) // stride + 1
    starts = [padding - place * stride for place in range(places)]
    covers = all(0 <= start <= kernel - size for start in starts)
    return [slice(start, start + size) for start in starts] if covers else []
