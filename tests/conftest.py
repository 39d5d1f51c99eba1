"""What tests share: where real images are, and a quiet, small machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Each of several test processes gets a core of its own, and its children with it, before torch
# starts its threads: processes whose threads share cores wait for each other most of the time.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.sched_setaffinity(0, {cores[number % len(cores)]})

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

import senet

# Slow machines are no failures, and a continuous integration must not fail by chance.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with real images; skip where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SENET_BENCH_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}; SENET_BENCH_SHARED may name their folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device, saying so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(autouse=True, scope="session")
def _signals_end_processes() -> None:
    """Let signals do what they do, also where the tests were started with nohup or a shell's &.

    What these ignore is ignored by the processes that tests start, too.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fresh_process_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test out of the user's cache folder, with the floating-point state of a start."""
    # What runs a model here flushes subnormal numbers to zero from then on, as a run wants.
    torch.set_flush_denormal(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a model to the zoo that trains in milliseconds, as its users would; return its name."""
    monkeypatch.setitem(senet.MODELS, "tiny", build_tiny)
    return "tiny"


def build_tiny(*, stem: str, num_classes: int) -> nn.Module:
    """Return a convolution, BatchNorm and a classifier: (B, 3, H, W) -> (B, num_classes)."""
    stride = 2 if stem == "imagenet" else 1
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )
