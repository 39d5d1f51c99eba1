"""A cell's process that also knows tiny models, some of which come to a bad end while training."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import senet
from bench.execute import jobs
from bench.train import saver
from tests.conftest import build_tiny

HERE = Path.cwd()


def _once_stopped(what: Callable[[], None]) -> Callable[..., nn.Module]:
    """Return a builder of a model that does ``what`` in training until it is mended."""

    class Failing(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            if self.training and not (HERE / "mended").exists():
                what()
            logits: Tensor = super().forward(images)
            return logits

    return lambda **options: Failing(build_tiny(**options))


def _crash() -> None:
    raise RuntimeError("something broke\nin two lines")


def _run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _hang() -> None:
    (HERE / "hanging").touch()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _be_slow() -> None:
    (HERE / "slow").touch()
    time.sleep(0.2)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "tiny": build_tiny,
    "crashing": _once_stopped(_crash),
    "hungry": _once_stopped(_run_out_of_memory),
    "hanging": _once_stopped(_hang),
    "killed": _once_stopped(_be_killed),
    "slow": _once_stopped(_be_slow),
}

if __name__ == "__main__":
    senet.MODELS |= MODELS
    saver.CHECKPOINT_EVERY_S = 0.0
    jobs.main()
