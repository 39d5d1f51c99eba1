"""Logits as ranked classes: the one way in which runs and deployments are counted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ranked(NamedTuple):
    """Of each image: labels (B,), the likeliest classes (B, K), best first, confidence, nll (B,).

    K is 5, or the number of classes where there are fewer. int8 gives equal logits to several
    classes; counting all by one function makes the same of them everywhere.
    """

    labels: Tensor
    classes: Tensor
    confidence: Tensor
    nll: Tensor


def rank(logits: Tensor, labels: Tensor) -> Ranked:
    """Return logits (B, num_classes) ranked, beside their labels (B,), on their device."""
    log_p = torch.log_softmax(logits.float(), dim=1)
    best = log_p.topk(min(5, log_p.shape[1]), dim=1)
    nll = -log_p.gather(1, labels[:, None])[:, 0]
    return Ranked(labels, best.indices, best.values[:, 0].exp(), nll)
