"""Runtimes: the same logits by different ways, and a reason where there is no way."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import torch

import senet
from bench.compute import compiler, inference, parity
from bench.compute.session import Unsupported
from bench.errors import UserError
from bench.machine import numerics
from bench.measure.settle import settle_untrained

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler",
)


def needs(module):
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = senet.build("se_resnet18", stem="imagenet", num_classes=10)
    settle_untrained(network, 32)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def error_of(name, model, images, precision="fp32", where="cpu"):
    """Return how far a runtime's logits lie from the model's own, over the largest."""
    with torch.inference_mode():
        session = inference.RUNTIMES[name](model, images, where, precision)
        logits = session.call(session.adapt(images)).float().cpu()
        return parity.compare_logits(logits, model(images), precision).error


@pytest.mark.parametrize(
    "name",
    [
        "eager",
        "channels_last",
        pytest.param("compile", marks=needs_compiler),
        pytest.param("compile_frozen", marks=needs_compiler),
        pytest.param("onnxruntime", marks=needs("onnxruntime")),
        pytest.param("openvino", marks=needs("openvino")),
    ],
)
def test_logits_are_the_models(name, model, images):
    """Every runtime of the CPU gives the model's own logits, to 1e-5 of the largest."""
    assert error_of(name, model, images) < 1e-5


@pytest.mark.parametrize("name", ["eager", "channels_last"])
def test_bf16_logits_are_near_and_not_the_same(name, model, images):
    """bf16 is computed in bf16: off by more than fp32's rounding and less than 5 %."""
    assert 1e-4 < error_of(name, model, images, "bf16") < 0.05


def test_channels_last_puts_inputs_and_weights_in_that_order(model, images):
    """The session's input and its weights lie in NHWC order; nothing is converted in a call."""
    session = inference.channels_last(model, images, "cpu", "fp32")
    assert session.adapt(images).is_contiguous(memory_format=torch.channels_last)
    weights = [p for p in session.call.parameters() if p.ndim == 4]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_an_unknown_runtime_is_refused():
    """The known ones are listed."""
    with pytest.raises(UserError, match="unknown runtime 'tensorrt'; choose from: eager, chan"):
        inference.check(("eager", "tensorrt"))
    with pytest.raises(UserError, match=r"; did you mean onnxruntime\?$"):
        inference.check(("onnx-runtime",))


@pytest.mark.parametrize(("name", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_extra_says_which_to_install(name, extra, monkeypatch):
    """The command to get it stands in the error."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"pip install 'senet-bench\[{extra}\]'"):
        inference.check((name,))


@pytest.mark.parametrize(
    ("name", "where", "precision", "reason"),
    [
        ("cudagraph", "cpu", "fp32", "CUDA graphs need a CUDA GPU, not cpu"),
        ("channels_last", "mps", "fp32", "contiguous format only"),
        ("compile_frozen", "mps", "fp32", "cannot freeze"),
        ("onnxruntime", "mps", "fp32", "not on mps in fp32"),
        ("onnxruntime", "cpu", "bf16", "not on cpu in bf16"),
        ("openvino", "cuda:0", "fp32", "on the CPU only, not on cuda:0"),
    ],
)
def test_what_cannot_run_says_why(name, where, precision, reason, model, images):
    """Unsupported carries the reason that its row gets."""
    with pytest.raises(Unsupported, match=reason):
        inference.RUNTIMES[name](model, images, where, precision)


@needs("onnxruntime")
def test_exporting_prints_nothing(model, images, capfd):
    """stdout and stderr stay empty: with --json stdout is JSON alone."""
    error_of("onnxruntime", model, images)
    assert capfd.readouterr() == ("", "")


CACHED = """
import torch
from bench.compute import compiler, inference

torch.manual_seed(0)
images, network = torch.ones(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3).eval()
with torch.inference_mode():
    watch = compiler.from_cache()
    inference.eager(network, images, "cpu", "fp32").call(images)
    print(watch())
    watch = compiler.from_cache()
    inference.compiled(network, images, "cpu", "fp32").call(images)
    print(watch())
"""


@needs_compiler
def test_code_that_an_earlier_process_compiled_is_told(tmp_path):
    """Nothing compiled, compiled anew, and found on disk by the next process."""
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CACHED],
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        told.append(done.stdout.split())
    assert told == [["None", "False"], ["None", "True"]]


@needs_compiler
def test_many_models_and_shapes_are_compiled_and_none_runs_eager(images):
    """Ten networks of one class, more than Dynamo's limit, are ten compilations."""
    from torch._dynamo.utils import counters

    compiler.prepare_compiler()
    torch._dynamo.reset()
    counters.clear()
    with torch.inference_mode():
        for width in range(1, 11):
            block = senet.SqueezeExcitation(16 * width, reduction=16)
            session = inference.compiled(block, images, "cpu", "fp32")
            session.call(torch.randn(2, 16 * width, 4, 4))
    assert counters["stats"]["unique_graphs"] == 10


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["eager", "channels_last", "compile", "cudagraph"])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 0.1), ("fp16", 1e-2)]
)
def test_logits_on_a_gpu(name, precision, tolerance, model, images):
    """Every runtime and precision of a CUDA GPU stays within its tolerance."""
    if numerics.precision_problem("cuda:0", precision):
        pytest.skip("the GPU has no such arithmetic")
    with numerics.computing_in("cuda:0", "tf32" if precision == "tf32" else "fp32"):
        assert error_of(name, model, images, precision, "cuda:0") < tolerance


@pytest.mark.gpu
def test_a_cuda_graph_reads_each_new_input(model, images):
    """Two different inputs give two different logits from one recorded graph."""
    session = inference.cudagraph(model, images, "cuda:0", "fp32")
    first = session.call(session.adapt(images)).clone()
    second = session.call(session.adapt(images.flip(0))).clone()
    assert torch.allclose(first, second.flip(0), atol=1e-4)
    assert not torch.allclose(first, second, atol=1e-4)


def test_nothing_heavy_is_imported_for_a_runtime_that_is_not_used():
    """The extras' packages are imported only by their own runtimes."""
    import subprocess

    code = "import sys, bench.compute.inference\n"
    code += "print('onnxruntime' in sys.modules, 'openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
