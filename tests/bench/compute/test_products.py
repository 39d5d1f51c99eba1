"""Convolutions as products of matrices: the same outputs and gradients, the model unchanged."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

import senet
from bench.compute import inference, products, training_state, training_step
from bench.compute.session import Unsupported
from bench.compute.training_step import Setting
from bench.errors import UserError
from bench.spec.recipe import Recipe

OPTIONS: list[tuple[dict[str, Any], int, bool]] = [
    ({"kernel_size": 1}, 7, True),
    ({"kernel_size": 1, "stride": 2}, 7, True),
    ({"kernel_size": 1, "stride": 2, "bias": False}, 4, True),
    ({"kernel_size": 1, "padding": 1}, 4, False),
    ({"kernel_size": 3, "padding": 1}, 1, True),
    ({"kernel_size": 3, "padding": 1}, 2, True),
    ({"kernel_size": 3, "padding": 1, "stride": 2}, 2, True),
    ({"kernel_size": 3, "padding": 1, "stride": 2}, 1, True),
    ({"kernel_size": 3, "padding": 1}, 3, False),
    ({"kernel_size": 3, "padding": 0}, 3, True),
    ({"kernel_size": 3, "padding": 0}, 4, False),
    ({"kernel_size": 5, "padding": 2}, 3, True),
    ({"kernel_size": 7, "padding": 3, "stride": 2}, 4, True),
    ({"kernel_size": (3, 1), "padding": (1, 0)}, 2, False),
    ({"kernel_size": (3, 2), "padding": (1, 0)}, 2, True),
    ({"kernel_size": 2, "stride": 2}, 2, True),
    ({"kernel_size": 2, "stride": 3, "padding": 1}, 1, True),
    ({"kernel_size": 3, "padding": 1, "groups": 2}, 2, False),
    ({"kernel_size": 3, "padding": 2, "dilation": 2}, 2, False),
    ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, 2, False),
    ({"kernel_size": 3, "padding": "same"}, 2, False),
]


def convolved(conv: nn.Conv2d, size: int) -> tuple[Tensor, ...]:
    """Return output, and the gradients of input, weight and bias."""
    torch.manual_seed(1)
    images = torch.randn(3, conv.in_channels, size, size, dtype=torch.double, requires_grad=True)
    placed = images.to(memory_format=torch.channels_last)
    output = conv(placed)
    output.square().mul(torch.arange(output.numel()).view_as(output)).sum().backward()
    found = (output, images.grad, *(parameter.grad for parameter in conv.parameters()))
    return tuple(value.detach().clone() for value in found if value is not None)


@pytest.mark.parametrize(("options", "size", "is_product"), OPTIONS)
def test_outputs_and_gradients_are_the_convolutions_own(
    options: dict[str, Any], size: int, is_product: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **options).double()
    expected = convolved(conv, size)
    conv.zero_grad(set_to_none=True)
    with (
        patch.object(products.F, "linear", side_effect=products.F.linear) as multiplied,
        products.as_products(products.able_convolutions(conv)),
    ):
        found = convolved(conv, size)
    assert multiplied.called == is_product
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_the_model_is_itself_again_afterwards_even_after_an_error() -> None:
    model = senet.build("se_resnet50", stem="imagenet", num_classes=10)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    with (
        pytest.raises(RuntimeError, match="channels"),
        products.as_products(products.able_convolutions(model)),
    ):
        model(torch.randn(2, 4, 32, 32))
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_a_convolution_of_another_class_computes_itself() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * super().forward(images)

    conv, images = Doubled(3, 4, 1), torch.randn(2, 3, 5, 5)
    expected = conv(images)
    with products.as_products(products.able_convolutions(conv)):
        assert torch.equal(conv(images), expected)


def trained(model: nn.Module, runtime: str, steps: int = 10) -> tuple[nn.Module, Tensor]:
    """Return the model after some steps on 32×32 images in float64, and its last totals."""
    recipe = Recipe(name="step", epochs=1, batch_size=16, lr=0.001)
    setting = Setting(runtime=runtime)
    model = training_step.place(copy.deepcopy(model).double().train(), "cpu", runtime)
    training = training_state.start(model, recipe, device="cpu", precision="fp32", captured=False)
    random = torch.Generator().manual_seed(0)
    batches = [
        (
            torch.randn(16, 3, 32, 32, generator=random, dtype=torch.double),
            torch.randint(10, (16,), generator=random),
        )
        for _ in range(steps)
    ]
    example = (batches[0][0].contiguous(memory_format=torch.channels_last), batches[0][1])
    take_step = training_step.ready_step(training, recipe, setting, example)
    for images, labels in batches:
        take_step(images.contiguous(memory_format=training_step.memory_format(runtime)), labels)
    return training.model, training.totals


@pytest.mark.parametrize("name", ["se_resnet50", "resnet18"])
def test_ten_steps_are_those_of_the_plain_model(name: str) -> None:
    torch.manual_seed(0)
    model = senet.build(name, stem="imagenet", num_classes=10)
    (plain, its_totals), (fast, totals) = (
        trained(model, runtime) for runtime in ("eager", "channels_last_matmul")
    )
    torch.testing.assert_close(totals, its_totals, rtol=1e-5, atol=1e-5)  # the loss is fp32's
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert list(fast.state_dict()) == list(plain.state_dict())


def small() -> nn.Sequential:
    """Return a network that takes seconds to compile and has convolutions of either kind."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 3, 16, 1)
    rest = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(stem, nn.ReLU(), *rest)


def test_compiled_steps_with_products_are_the_eager_ones() -> None:
    model = small()
    plain, _ = trained(model, "eager")
    fast, _ = trained(model, "compile_channels_last_matmul")
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["channels_last_matmul", "compile_channels_last_matmul"])
def test_a_session_with_products_gives_the_eager_logits(name: str) -> None:
    model, images = small().eval(), torch.randn(2, 3, 32, 32)
    expected = model(images)
    session = inference.make(name, model, images, "cpu", "fp32")
    torch.testing.assert_close(session.call(session.adapt(images)), expected)
    assert "forward" not in vars(model[0])


@pytest.mark.parametrize("name", ["channels_last_matmul", "compile_channels_last_matmul"])
@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_products_are_of_the_cpu_alone(name: str, device: str) -> None:
    with pytest.raises(UserError, match=r"faster on a CPU alone|mps"):
        training_step.check_runtime(name, device)
    with pytest.raises(Unsupported, match="CPU alone"):
        inference.make(name, nn.Conv2d(3, 4, 1), torch.randn(1, 3, 8, 8), device, "fp32")
