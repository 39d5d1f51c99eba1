"""Agreement with eager fp32."""

import pytest
import torch
from torch import nn

from bench.compute import parity


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


def images(number):
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_logits_error_is_the_largest_difference_over_the_largest_logit():
    """Off by 0.5 where the largest logit is 10: 0.05, wrong in fp32 and right in bf16."""
    expected = torch.tensor([[10.0, -3.0], [1.0, 2.0]])
    off = expected + torch.tensor([[0.0, 0.5], [0.0, 0.0]])
    fp32 = parity.compare_logits(off, expected, "fp32")
    assert fp32.error == pytest.approx(0.05)
    assert "logits are off by 0.05" in str(parity.problem(fp32))
    assert parity.problem(parity.compare_logits(off, expected, "bf16")) is None


def test_only_the_first_images_are_compared(network):
    """64 images are run and 16 compared: in eval mode an image does not depend on the others."""
    with torch.no_grad():
        logits = network(images(64))
    expected = parity.reference_logits(network, images(64), "cpu")
    assert len(expected) == 16
    assert parity.compare_logits(logits, expected, "fp32").error == pytest.approx(0, abs=1e-6)


def test_the_reference_gradient_is_that_of_one_step(network):
    """All weights in one vector, equal to autograd's, and the network has no gradient left."""
    labels = torch.arange(4)
    found = parity.reference_gradient(network, images(4), labels, "cpu")
    assert all(p.grad is None for p in network.parameters())
    nn.functional.cross_entropy(network(images(4)), labels).backward()
    assert torch.equal(found, parity.gradient(network))
    assert found.shape == (sum(p.numel() for p in network.parameters()),)


def test_a_wrong_gradient_is_found_in_every_precision(network):
    """A gradient of the opposite sign is off by 2, a missing one by 1: wrong even in bf16."""
    right = torch.ones(10)
    for wrong in (-right, 0 * right):
        found = parity.compare_gradients(wrong, right, "bf16")
        assert "gradients are off" in str(parity.problem(found))
    assert parity.problem(parity.compare_gradients(right * 1.001, right, "fp32")) is None


def test_what_is_not_finite_is_wrong():
    """NaN has no error, and is a problem."""
    found = parity.compare_logits(torch.full((1, 2), float("nan")), torch.ones(1, 2), "bf16")
    assert found.error is None
    assert parity.problem(found) == "logits are not finite"


def test_mps_is_compared_with_the_cpu():
    """Other devices are compared with themselves."""
    assert parity.reference_device("mps") == "cpu"
    assert parity.reference_device("cuda:1") == "cuda:1"
    assert parity.reference_device("cpu") == "cpu"
