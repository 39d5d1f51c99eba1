"""int8 by each library: what computes in it is counted, and near what fp32 gives."""

from __future__ import annotations

import importlib.util
import shutil

import deployed
import pytest
import torch
from torch import nn

from bench.compute import inference
from bench.compute.int8 import calibration
from bench.compute.int8.calibration import Calibration, from_noise, from_training
from bench.compute.session import Session, Unsupported
from bench.errors import UserError
from bench.measure.accuracy import accuracy, classify, reference
from bench.measure.workload import computing


def needs(*modules: str, compiler: bool = False) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if compiler and shutil.which("g++") is None and shutil.which("clang++") is None:
        missing.append("a C++ compiler")
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


QUANTIZERS = [
    pytest.param("onnxruntime", marks=needs("onnxruntime", "onnxscript")),
    pytest.param("openvino", marks=needs("openvino", "nncf")),
    pytest.param("compile", marks=needs("torchao", compiler=True)),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return deployed.network()


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    tested = deployed.test_set()
    return from_training(tested.dataset, tested.normalization, 64, seed=0)


def int8(name: str, model: nn.Module, batch_size: int, calibrated: Calibration) -> Session:
    example = calibrated.images[:batch_size]
    return inference.make(name, model, example, "cpu", "int8", calibrated)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_all_operators_compute_in_int8_and_agree_with_fp32(
    name: str, model: nn.Module, calibrated: Calibration
) -> None:
    """Two convolutions and a linear layer; logits off by some per cent, and not by nothing."""
    tested = deployed.test_set()
    with computing("cpu", "int8", "infer"):
        session = int8(name, model, 8, calibrated)
        found = classify(session, tested, 8, "cpu")
        assert session.quantized is not None
        facts = session.quantized()
    assert (facts.int8_operators, facts.operators) == (3, 3)
    assert facts.calibration == calibrated.facts
    own = accuracy(found, reference(model, tested, "cpu"), tested)
    assert 1e-4 < own.logit_error < 0.25
    assert own.changed < 30
    # 3·16·9 + 16·16·9 + 16·6 weights of one byte, and not of four; scales and the graph beside
    assert session.weight_bytes is not None
    assert name == "onnxruntime" or 2832 < session.weight_bytes < 2 * 2832


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_batch_size_runs_the_same_artefact(
    name: str, model: nn.Module, calibrated: Calibration
) -> None:
    """The ranges do not depend on how many images a call takes: the logits are the same."""
    images = calibrated.images[:8]
    with computing("cpu", "int8", "infer"):
        one, eight = (int8(name, model, size, calibrated) for size in (1, 8))
        single = torch.cat([one.call(one.adapt(images[i : i + 1])).clone() for i in range(8)])
        together = eight.call(eight.adapt(images)).clone()
    assert torch.allclose(single, together, atol=0.03 * float(together.abs().max()))


@needs("torchao", compiler=True)
def test_a_relu_that_a_block_calls_twice_is_told_apart() -> None:
    """torchvision's blocks share one ReLU module, with which torchao's quantiser fails."""
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), BasicBlock(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    noise = from_noise(8, 16, seed=0)
    with computing("cpu", "int8", "infer"):
        session = int8("compile", model.eval(), 4, noise)
        logits = session.call(session.adapt(noise.images[:4]))
        expected = model(noise.images[:4])
        assert session.quantized is not None
        assert session.quantized().int8_operators == 3
    assert float((logits - expected).abs().max() / expected.abs().max()) < 0.25


@needs("torchao", compiler=True)
def test_a_network_that_torchao_cannot_do_is_a_row_with_its_reason(
    model: nn.Module, calibrated: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchao.quantization.pt2e import quantize_pt2e

    def fail(*arguments: object) -> None:
        raise ValueError("Input partition has more than one output node")

    monkeypatch.setattr(quantize_pt2e, "prepare_pt2e", fail)
    with pytest.raises(Unsupported, match="cannot do with this network: Input partition"):
        int8("compile", model, 1, calibrated)


def test_calibration_images_come_from_the_training_split_and_are_told() -> None:
    """The same seed draws the same images, another others; none is a test image."""
    tested = deployed.test_set()
    own, same, other = (
        from_training(tested.dataset, tested.normalization, 32, seed) for seed in (0, 0, 1)
    )
    assert own.facts == same.facts
    assert torch.equal(own.images, same.images)
    assert own.facts.digest != other.facts.digest
    assert (own.facts.source, own.facts.num_images) == ("training split", 32)
    train = (tested.dataset.train.images.float() / 255 - 0.5) / 0.5
    nearest = torch.cdist(own.images.flatten(1), train.flatten(1)).min(dim=1).values
    assert float(nearest.max()) < 0.05  # two images lie 5 and more apart


def test_too_few_training_images_are_refused() -> None:
    tested = deployed.test_set(num_train=12)
    with pytest.raises(UserError, match="wants 13 training images; colours has 12"):
        calibration.from_training(tested.dataset, tested.normalization, 13, seed=0)


def test_int8_is_asked_of_a_runtime_that_has_it(model: nn.Module) -> None:
    with pytest.raises(Unsupported, match="eager does not compute in int8; runtimes that do: onnx"):
        inference.make("eager", model, torch.zeros(1, 3, 8, 8), "cpu", "int8", from_noise(8, 4, 0))
    with pytest.raises(Unsupported, match="no way to it on cuda:0 yet"):
        inference.make("compile", model, torch.zeros(1, 3, 8, 8), "cuda:0", "int8")
    with pytest.raises(UserError, match="int8 is computed by --runtime onnxruntime"):
        inference.check(["eager"], ["fp32", "int8"])


def test_int8_without_its_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"nncf", "torchao"}
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in missing else find(name)
    )
    with pytest.raises(UserError, match=r"needs torchao: pip install 'senet-bench\[int8\]'"):
        inference.check(["compile"], ["int8"])
    if find("openvino"):
        inference.check(["openvino"], ["fp32"])
        with pytest.raises(UserError, match=r"needs nncf: pip install 'senet-bench\[openvino\]'"):
            inference.check(["openvino"], ["fp32", "int8"])
