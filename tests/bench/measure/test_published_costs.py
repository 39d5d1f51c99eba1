"""Costs of foreign families are those that timm publishes.

The figures are those of results/benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv in timm's
repository: parameters and activations in millions, GMACs, each rounded to two places. Its GMACs
are fvcore's, which also counts two for each element of a BatchNorm and five for one of a LayerNorm;
`macs` are those of convolutions and matrix products alone.
"""

from __future__ import annotations

import pytest
import timm
import torch

from bench.measure.count.cost import count
from bench.measure.count.operators import trace

# name -> image size, parameters M, GMACs, activations M
PUBLISHED = {
    "resnet18": (224, 11.69, 1.82, 2.48),
    "seresnet18": (224, 11.78, 1.82, 2.49),
    "eca_resnext26ts": (256, 10.3, 2.43, 10.52),
    "regnety_004": (224, 4.34, 0.41, 3.89),
    "efficientnet_b0": (224, 5.29, 0.4, 6.75),
    "mobilenetv3_small_100": (224, 2.54, 0.06, 1.42),
    "convnext_atto": (224, 3.7, 0.55, 3.81),
    "vit_tiny_patch16_224": (224, 5.72, 1.26, 5.97),
    "swin_tiny_patch4_window7_224": (224, 28.29, 4.51, 17.06),
    "maxvit_pico_rw_256": (256, 7.46, 1.83, 22.3),
    "mixer_s32_224": (224, 19.1, 1.0, 2.28),
    "densenet121": (224, 7.98, 2.87, 6.9),
}


def build(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


def elements_of_norms(model: torch.nn.Module, image_size: int) -> int:
    """Return what fvcore adds to products: 2 for a BatchNorm's elements, 5 for a LayerNorm's."""
    worth = {"batch_norm": 2, "layer_norm": 5}
    operators = trace(model, image_size).operators
    return sum(worth.get(o.name, 0) * o.written for o in operators)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_macs_and_activations_are_the_published_ones(name: str) -> None:
    size, params, gmacs, activations = PUBLISHED[name]
    model = build(name)
    facts = count(model, size)
    assert facts.activations is not None
    assert round(facts.params / 1e6, 2) == params
    assert round(facts.activations / 1e6, 2) == activations
    explained = facts.macs + elements_of_norms(model, size)
    assert explained / 1e9 == pytest.approx(gmacs, abs=0.0051)


@pytest.mark.parametrize(
    ("name", "counters"),
    [
        ("mobilenetv3_small_100", ("this project", "torch.utils.flop_counter", "fvcore")),
        ("vit_tiny_patch16_224", ("this project", "torch.utils.flop_counter")),
    ],
)
def test_the_record_says_which_counters_agree(name: str, counters: tuple[str, ...]) -> None:
    """fvcore does not know fused attention, and the record says what it then counts."""
    facts = count(build(name), 224)
    assert facts.counters == counters
    if len(counters) == 2:
        assert facts.left_out["fvcore"].startswith("it does not know scaled_dot_product_attention;")
