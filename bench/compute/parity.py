"""Whether a runtime computes the same as eager fp32: logits, and in training gradients.

A device is compared with itself, save mps, whose results are compared with the CPU's.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.machine import devices, numerics
from bench.record.profile import ParityFacts
from bench.spec.values import Precision

NUM_IMAGES = 16
"""Images whose logits are compared: in eval mode an image's logits do not depend on the others."""
LOGITS: dict[Precision, float] = {
    "fp32": 1e-3,
    "tf32": 1e-2,
    "bf16": 1e-1,
    "fp16": 2e-2,
    "int8": 5e-1,  # finds what is broken; what int8 loses is told by the test set
}
"""Largest allowed difference between logits, over the largest logit of eager fp32."""
GRADIENTS: dict[Precision, float] = {"fp32": 2e-2, "tf32": 1e-1, "bf16": 7e-1, "fp16": 3e-1}
"""Largest allowed norm of the difference between gradients, over the norm of eager fp32's.

BatchNorm amplifies rounding from layer to layer; a gradient that is wrong is off by 1 or more.
"""


def reference_device(device: str) -> str:
    """Return where the reference is computed."""
    return "cpu" if devices.kind(device) == "mps" else device


def reference_logits(network: nn.Module, images: Tensor, device: str) -> Tensor:
    """Return eager fp32's logits (B, num_classes), on the CPU, of the first images."""
    where = reference_device(device)
    twin = copy.deepcopy(network).eval().to(where)
    with numerics.computing_in(where, "fp32"), torch.no_grad():
        logits: Tensor = twin(images[:NUM_IMAGES].to(where))
    return logits.cpu()


def reference_gradient(network: nn.Module, images: Tensor, labels: Tensor, device: str) -> Tensor:
    """Return the gradient of one eager fp32 training step, all weights in one vector on the CPU."""
    where = reference_device(device)
    twin = copy.deepcopy(network).train().to(where)
    with numerics.computing_in(where, "fp32"):
        F.cross_entropy(twin(images.to(where)), labels.to(where)).backward()
    return gradient(twin)


def gradient(network: nn.Module) -> Tensor:
    """Return the gradients of all weights as one fp32 vector on the CPU."""
    found = (p.grad for p in network.parameters() if p.grad is not None)
    return torch.cat([grad.detach().float().flatten().cpu() for grad in found])


def compare_logits(logits: Tensor, expected: Tensor, precision: Precision) -> ParityFacts:
    """Return the largest difference between logits over the largest expected one."""
    logits = logits[: len(expected)].float().cpu()
    error = float((logits - expected).abs().max() / expected.abs().max())
    return ParityFacts(error=_finite(error), tolerance=LOGITS[precision])


def compare_gradients(found: Tensor, expected: Tensor, precision: Precision) -> ParityFacts:
    """Return the norm of the difference over the norm of what is expected."""
    error = float((found - expected).norm() / expected.norm())
    return ParityFacts(error=_finite(error), tolerance=GRADIENTS[precision], of="gradients")


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def problem(parity: ParityFacts) -> str | None:
    """Return in words why a result is wrong, None when it agrees."""
    if parity.error is None:
        return f"{parity.of} are not finite"
    if parity.error <= parity.tolerance:
        return None
    return (
        f"{parity.of} are off by {parity.error:.2g} from eager fp32's"
        f" (tolerance {parity.tolerance:g})"
    )
