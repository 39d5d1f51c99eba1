"""What is asked of GPUs and libraries that are not here: played by stand-ins."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.compute import compiler
from bench.errors import UserError
from bench.machine import device_memory, devices, graphs, numerics


def gpus(patch: pytest.MonkeyPatch, *capabilities: tuple[int, int], arch: str = "") -> None:
    """Let torch find GPUs of these capabilities, the first of them the current one."""
    found = [SimpleNamespace(major=a, minor=b, gcnArchName=arch) for a, b in capabilities]

    def which(device: Any) -> Any:
        return found[torch.device(device).index or 0]

    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: len(found))
    patch.setattr(torch.cuda, "get_device_properties", which)
    patch.setattr(torch.cuda, "get_device_capability", lambda d: (which(d).major, which(d).minor))
    patch.setattr(torch.cuda, "get_device_name", lambda d: "NVIDIA Test")
    patch.setattr(torch.version, "cuda", None if arch else "13.0")
    patch.setattr(torch.version, "hip", "7.0" if arch else None)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_the_chosen_gpu_is_asked_for_its_precisions_and_not_the_current_one(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 emulates bf16, slower than fp32; beside it an A100 may be the current GPU."""
    gpus(monkeypatch, (8, 0), (7, 5))
    assert numerics.precision_problem("cuda:0", precision) is None
    assert "cuda:1" in str(numerics.precision_problem("cuda:1", precision))
    assert numerics.precision_problem("cuda:1", "fp16") is None


@pytest.mark.parametrize(
    ("arch", "has_tf32"), [("gfx942:sramecc+", True), ("gfx90a", False), ("gfx1100", False)]
)
def test_amds_gpus_have_tf32_by_name_and_bf16_always(
    arch: str, has_tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, (9, 4), arch=arch)
    assert (numerics.precision_problem("cuda:0", "tf32") is None) is has_tf32
    assert numerics.precision_problem("cuda:0", "bf16") is None


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_torch_has_no_kernels_for_is_told_when_it_is_chosen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, (6, 1), (7, 5), (10, 3))
    monkeypatch.setattr(
        torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90a", "sm_100f", "compute_120"]
    )
    with pytest.raises(UserError, match=r"capability 6\.1\) is older than .*\(7\.5 and later\)"):
        devices.resolve(name)
    assert devices.resolve("cuda:1") == "cuda:1"
    assert devices.resolve("cuda:2") == "cuda:2"


def test_a_build_that_names_no_architectures_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, (6, 1))
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    assert devices.resolve("auto") == "cuda:0"


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "Invalid buffer size: 33.40 GiB",
        "MPS backend out of memory (MPS allocated: 17.99 GiB)",
        "HIP out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_a_lack_of_memory_is_known_by_all_its_words(words: str) -> None:
    assert device_memory.is_out_of_memory(RuntimeError(words))


def test_a_lack_of_memory_is_found_behind_the_error_that_it_caused() -> None:
    """The capture of a graph ends with an error of its own."""

    def end_capture() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError) as caught:
        end_capture()
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert device_memory.is_out_of_memory(caught.value)


def test_errors_that_hide_or_repeat_their_causes_are_read_to_their_end() -> None:
    hidden = RuntimeError("shapes cannot be multiplied")
    hidden.__context__, hidden.__suppress_context__ = MemoryError(), True
    assert not device_memory.is_out_of_memory(hidden)
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert not device_memory.is_out_of_memory(one)


def flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark


def test_torchs_defaults_are_those_of_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.perf.fresh import in_fresh_process

    with numerics.computing_in("cuda:0", "fp32"), numerics.fixed_shapes("cuda:0"):
        before = flags()
        with numerics.as_torch_comes():
            assert flags() == in_fresh_process(flags) != before
        assert flags() == before


def test_determinism_fills_no_new_tensor() -> None:
    before = torch.utils.deterministic.fill_uninitialized_memory
    with numerics.fixed_shapes("cpu", deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory is before


@pytest.mark.parametrize(
    ("version", "device", "precision", "is_refused"),
    [
        ("2.7.1", "mps", "fp16", True),
        ("2.8.0+cpu", "mps", "fp16", False),
        ("2.10.0", "mps", "fp16", False),
        ("2.7.1", "mps", "bf16", False),
        ("2.7.1", "cuda:0", "fp16", False),
    ],
)
def test_fp16_trains_on_mps_from_the_first_version_whose_scaler_sees_overflows(
    version: str, device: str, precision: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert (numerics.training_problem(device, precision) is not None) is is_refused
    if is_refused:
        with pytest.raises(UserError, match=r"needs torch 2\.8, not 2\.7\.1; choose fp32"):
            numerics.check_precision(device, precision, train=True)
        numerics.check_precision(device, precision)


def test_inductor_leaves_the_layout_as_it_is_on_mps() -> None:
    assert compiler.options("mps") == {"layout_optimization": False}
    assert compiler.options("cpu") == {}
    assert hasattr(torch._inductor.config, "layout_optimization")


def test_all_graphs_of_a_gpu_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a sitting are replayed one after the other, never together."""
    pools: list[Any] = []

    class Recorded:
        def __init__(self, graph: Any, pool: Any) -> None:
            pools.append(pool)

        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None: ...

    stream = SimpleNamespace(wait_stream=lambda other: None)
    handles = iter(range(10))
    graphs._pool.cache_clear()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))
    monkeypatch.setattr(torch.cuda, "graph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    taken: list[str] = []
    for device in ("cuda:0", "cuda:0", "cuda:1"):
        graphs.capture_step(lambda device=device: taken.append(device), device)  # type: ignore[misc]
    graphs._pool.cache_clear()
    assert pools == [0, 0, 1]
    assert len(taken) == 3 * 4  # three to warm up, one recorded
