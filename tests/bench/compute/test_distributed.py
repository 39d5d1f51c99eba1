"""Several processes: the same gradient, every image once, one record, no endless waiting."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

import senet
from bench import data
from bench.compute import distributed, training_state, training_step
from bench.compute.distributed import ALONE, Group
from bench.compute.model import identify
from bench.compute.training_step import Setting
from bench.errors import UserError
from bench.events import Event, StepDone
from bench.execute import run_folder, train_run
from bench.machine import devices
from bench.record.run import RunRecord
from bench.signals import Preempted
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, RunSpec
from bench.spec.values import validated
from bench.train.evaluate import load_predictions
from tests.conftest import build_tiny

RECIPE = Recipe(name="d", epochs=2, batch_size=16, lr=0.05, milestones=(1,), crop_padding=2)
DATA = DataSpec(name="shapes", train_limit=70, test_limit=41)
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(work: Callable[..., None], *arguments: Any, world_size: int = 2) -> None:
    """Call ``work(group, *arguments)`` in several processes that form a group."""
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    mp.spawn(_enter, (work, world_size, environment, arguments), nprocs=world_size)


def _enter(
    rank: int, work: Callable[..., None], world_size: int, environment: Any, arguments: Any
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    group = Group(rank, world_size, rank, world_size)
    with distributed.joined(group, "cpu"):
        work(group, *arguments)


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_tiny(stem="cifar", num_classes=10)


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(size)
    labels = torch.randint(10, (size,), generator=random)
    return torch.randn(size, 3, 8, 8, generator=random), labels


def weights_after_a_step(group: Group, size: int) -> list[torch.Tensor]:
    """Take a step of rate 1 on this process' share, BatchNorm in eval mode; return the gradient."""
    recipe = RECIPE.changed(momentum=0.0, weight_decay=0.0)
    model = tiny().eval()
    before = [p.detach().clone() for p in model.parameters()]
    training = training_state.start(model, recipe, device="cpu", precision="fp32")
    training.optimizer.param_groups[0]["lr"] = 1.0
    take_step = training_step.ready_step(training, recipe, Setting(group=group), None)
    own = distributed.part(group, size)
    images, labels = (tensor[own] for tensor in batch(size))
    take_step(images, labels, len(labels) * group.world_size / size)
    return [b - p.detach() for b, p in zip(before, model.parameters(), strict=True)]


SIZES = (16, 5)  # the second gives unequal shares, as the last batch of an epoch may


def _save_gradients(group: Group, path: Path) -> None:
    gradients = [weights_after_a_step(group, size) for size in SIZES]
    if group.is_first:
        torch.save(gradients, path)


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    together(_save_gradients, tmp_path / "gradients.pt")
    for size, two in zip(SIZES, torch.load(tmp_path / "gradients.pt"), strict=True):
        one = weights_after_a_step(ALONE, size)
        for ours, theirs in zip(two, one, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert max(float(gradient.abs().max()) for gradient in one) > 1e-3


def train(group: Group, out: Path, emit: Callable[[Event], None], **options: Any) -> RunRecord:
    """Train a tiny model as one of a group; ``options`` are those of `run.train_run`."""
    senet.MODELS["tiny"] = build_tiny
    dataset = data.load(DATA)
    recipe = RECIPE.changed(ema_decay=0.9)
    wanted = {
        "model": identify("tiny", dataset, stem="cifar"),
        "data": DATA,
        "recipe": recipe,
        "world_size": group.world_size,
        "val_split": 0.1,
    }
    return train_run.train_run(
        validated(RunSpec, wanted), dataset, out, emit=emit, group=group, **options
    )


def _train_whole_and_in_pieces(group: Group, out: Path) -> None:
    """Train once without, and once with an interruption that only the second process is told of."""
    whole = train(group, out / "whole", lambda event: None)
    steps = [0]

    def interrupt(event: Event) -> None:
        steps[0] += isinstance(event, StepDone)
        if steps[0] == 3 and isinstance(event, StepDone) and group.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Preempted, match=r"SIGUSR1: stopped in epoch 1, step [34] of 4 and saved"):
        train(group, out / "pieces", interrupt)
    pieces = train(group, out / "pieces", lambda event: None, if_unfinished="resume")
    again = train(group, out / "pieces", lambda event: None)
    assert pieces.weights == whole.weights
    assert pieces.predictions == whole.predictions
    assert [e.loss for e in pieces.epochs] == [e.loss for e in whole.epochs]
    assert [e.val_top1 for e in pieces.epochs] == [e.val_top1 for e in whole.epochs]
    assert again == pieces


def test_a_run_of_two_processes_is_one_run_and_goes_on_exactly(tmp_path: Path) -> None:
    together(_train_whole_and_in_pieces, tmp_path)
    (folder,) = (tmp_path / "whole").iterdir()
    record = run_folder.load_run(folder)
    # 70 images, 7 of them held out: 3 batches of 16 and one of 15, in shares of 7 and 8
    assert [epoch.num_images for epoch in record.epochs] == [63, 63]
    assert record.spec.world_size == 2
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 5  # record, weights, predictions, the last checkpoint and the best
    assert {name for name in names if name.endswith("-best.ckpt")} < names
    predictions = load_predictions(folder / "predictions.npz")
    assert predictions.labels.tolist() == data.load(DATA).test.labels.tolist()


def _refuse(group: Group, path: Path) -> None:
    def broken() -> None:
        raise UserError("no such folder")

    for call in (distributed.on_first, distributed.local_first):
        with pytest.raises(UserError, match="no such folder"):
            call(group, broken)
    assert distributed.on_first(group, lambda: group.rank) == 0
    assert distributed.local_first(group, lambda: group.rank) == group.rank
    assert distributed.collect(group, group.rank) == [0, 1]
    assert distributed.largest(group, float(group.rank)) == 1.0
    assert distributed.any_of(group, group.rank == 1)
    assert not distributed.any_of(group, False)
    path.with_suffix(f".{group.rank}").touch()


def test_what_fails_on_the_first_process_fails_on_all_and_nobody_waits(tmp_path: Path) -> None:
    together(_refuse, tmp_path / "passed")
    assert {path.name for path in tmp_path.iterdir()} == {"passed.0", "passed.1"}


TRAIN = "-m bench train resnet18 --dataset shapes --train-limit 64 --test-limit 20 --device cpu"


@contextlib.contextmanager
def torchrun(out: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Train in two processes in a session of their own, which ends with the block."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), *TRAIN.split(), "--out", str(out), *arguments]
    job = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if k not in ENVIRONMENT},
    )
    too_late = threading.Timer(300, lambda: os.killpg(job.pid, signal.SIGKILL))
    too_late.start()
    try:
        yield job
    finally:
        too_late.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        assert job.stdout is not None
        job.stdout.close()


def test_a_dead_process_ends_the_job_within_a_minute(tmp_path: Path) -> None:
    with torchrun(tmp_path / "runs", "--recipe", "quick", "--epochs", "9999") as job:
        assert job.stdout is not None
        assert any("2/9999" in line for line in job.stdout), "it never trained"
        workers = psutil.Process(job.pid).children()
        workers[-1].kill()
        ended = job.wait(timeout=60)
    assert ended != 0


def test_a_batch_that_cannot_be_shared_ends_the_job_with_the_reason(tmp_path: Path) -> None:
    with torchrun(tmp_path / "runs", "--batch-size", "33") as job:
        output, _ = job.communicate(timeout=120)
    assert "error: batch size 33 is not divisible by the 2 processes that share it" in output
    assert "Traceback" not in output.partition("torch/distributed")[0]
    assert job.returncode != 0
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_torchrun_a_process_is_alone(clean: pytest.MonkeyPatch) -> None:
    assert distributed.from_environment() == ALONE


def test_torchruns_environment_is_read(clean: pytest.MonkeyPatch) -> None:
    values = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    values |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in values.items():
        clean.setenv(name, value)
    assert distributed.from_environment() == Group(5, 8, 1, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RANK": "0"}, "start with torchrun"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "start with torchrun"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set; start with torchrun"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK 2 is not one of the 2 of WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK 0 is not one of the 0 of WORLD_SIZE"),
    ],
)
def test_half_an_environment_is_refused(
    values: Any, message: str, clean: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        clean.setenv(name, value)
    with pytest.raises(UserError, match=message):
        distributed.from_environment()


def test_a_group_of_one_needs_no_meeting_point(clean: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        clean.setenv(name, value)
    assert distributed.from_environment().is_alone


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert distributed.own_device("cuda:0", Group(3, 4, 1, 2)) == "cuda:1"
    assert distributed.own_device("cuda:1", ALONE) == "cuda:1"
    assert distributed.own_device("cpu", Group(1, 2, 1, 2)) == "cpu"
    with pytest.raises(UserError, match="4 processes on this machine need as many GPUs; it has 2"):
        distributed.own_device("cuda:0", Group(0, 4, 0, 4))
    with pytest.raises(UserError, match="mps cannot train in several processes"):
        distributed.own_device("mps", Group(0, 2, 0, 2))


@pytest.mark.parametrize("length", [0, 1, 7, 41])
def test_parts_are_disjoint_and_cover_all(length: int) -> None:
    parts = [distributed.part(Group(rank, 3), length) for rank in range(3)]
    assert [i for part in parts for i in range(length)[part]] == list(range(length))
    assert max(len(range(length)[part]) for part in parts) <= length // 3 + 1


LONE = """
from bench.compute import distributed
distributed.MEETING_S = {seconds}
group = distributed.from_environment()
print("waiting", flush=True)
with distributed.joined(group, "cpu"):
    pass
"""


def lone(rank: int, seconds: float) -> subprocess.Popen[str]:
    """Start one of two processes of a job; the other one never comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-c", LONE.format(seconds=seconds)],
        env=os.environ | job | {"MASTER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_peer_never_comes_says_so_and_ends(rank: int) -> None:
    with lone(rank, 1.0) as process:
        try:
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    last = said.strip().splitlines()[-1]
    assert f"UserError: process {rank} of 2 met not all of the others at 127.0.0.1:" in last
    assert "within 1 s" in last


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_for_its_peer_ends_at_a_signal(rank: int, name: str) -> None:
    with lone(rank, 300.0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(1.0)
        process.send_signal(getattr(signal, name))
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -getattr(signal, name)
