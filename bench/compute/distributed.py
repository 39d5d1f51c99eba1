"""Several processes that train one model: torchrun's environment, collectives, nothing when alone.

`Group` is what the rest of the code sees. A group of one never calls torch.distributed.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from bench import signals
from bench.errors import UserError
from bench.machine import devices

T = TypeVar("T")
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")
MEETING_S = 300.0  # for processes of one job that a scheduler starts one after the other


@dataclass(frozen=True)
class Group:
    """The processes of a job, of which this is number ``rank`` of ``world_size``.

    ``local_rank`` and ``local_world_size`` count those on the same machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1


ALONE = Group()


def from_environment() -> Group:
    """Return the group that torchrun's environment describes, or `ALONE` without one.

    Raises UserError when only a part of it is there or a value is no number.
    """
    given = {name: os.environ.get(name) for name in _VARIABLES}
    if given["RANK"] is None and given["WORLD_SIZE"] is None:
        return ALONE
    try:
        rank, world_size = int(given["RANK"] or ""), int(given["WORLD_SIZE"] or "")
        local_rank = int(given["LOCAL_RANK"] or rank)
        local_world_size = int(given["LOCAL_WORLD_SIZE"] or world_size)
    except ValueError:
        raise UserError(
            "RANK and WORLD_SIZE are set but are no numbers; start with torchrun, or unset them"
        ) from None
    if not 0 <= rank < world_size:
        raise UserError(f"RANK {rank} is not one of the {world_size} of WORLD_SIZE")
    if missing := [n for n in _MEETING_POINT if world_size > 1 and not os.environ.get(n)]:
        raise UserError(f"{missing[0]} is not set; start with torchrun, or unset WORLD_SIZE")
    return Group(rank, world_size, local_rank, local_world_size)


def own_device(device: str, group: Group) -> str:
    """Return this process' device: with CUDA the GPU of its local rank.

    Raises UserError for one GPU named for several processes, and for mps, which has no collectives.
    """
    if group.is_alone or device == "cpu":
        return device
    if devices.kind(device) == "mps":
        raise UserError("mps cannot train in several processes; choose cpu or cuda")
    here = [name for name in devices.available() if devices.kind(name) == "cuda"]
    if group.local_world_size > len(here):
        raise UserError(
            f"{group.local_world_size} processes on this machine need as many GPUs;"
            f" it has {len(here)}: torchrun --nproc-per-node {len(here)}"
        )
    return f"cuda:{group.local_rank}"


@contextlib.contextmanager
def joined(group: Group, device: str) -> Iterator[None]:
    """Be part of the group inside the block: gloo for what is on the CPU, nccl for CUDA.

    A failure of a collective, which is what the death of another process looks like from here,
    becomes a UserError.
    """
    if group.is_alone:
        yield
        return
    _meet(group, "cpu:gloo,cuda:nccl" if devices.kind(device) == "cuda" else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise UserError("another process of this job has ended; --resume goes on") from error
    finally:
        with contextlib.suppress(RuntimeError):  # a broken group cannot be taken down in order
            dist.destroy_process_group()


def _meet(group: Group, backend: str) -> None:
    """Wait for the other processes, `MEETING_S` at most; UserError when they do not come.

    Meanwhile signals end this process as they end any other: torch waits without ever letting
    Python see one, and nothing has begun that would have to be saved.
    """
    timeout = timedelta(seconds=MEETING_S)
    with signals.by_default():
        try:
            store, _, _ = next(rendezvous("env://", group.rank, group.world_size, timeout=timeout))
            store.set_timeout(timeout)
            dist.init_process_group(
                backend, store=store, rank=group.rank, world_size=group.world_size
            )
        except (RuntimeError, ValueError) as error:
            where = ":".join(os.environ.get(name, "") for name in _MEETING_POINT)
            raise UserError(
                f"process {group.rank} of {group.world_size} met not all of the others at {where}"
                f" within {MEETING_S:g} s; were all started, and can they reach it?"
            ) from error


def _is_lost_peer(error: RuntimeError) -> bool:
    words = ("connection closed by peer", "connection reset by peer", "broken pipe")
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in words)


def parallel(model: nn.Module, device: str, group: Group) -> nn.Module:
    """Return the model with gradients that are averaged over the group, or itself when alone."""
    if group.is_alone:
        return model
    # 1×1 convolutions have gradients whose strides differ without any consequence.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    ids = [torch.device(device)] if devices.kind(device) == "cuda" else None
    # A step asks for no running statistics: those of the first rank are copied where they are used.
    return DistributedDataParallel(
        model, device_ids=ids, gradient_as_bucket_view=True, broadcast_buffers=False
    )


def add_up(group: Group, tensor: Tensor) -> Tensor:
    """Sum a tensor over the group, in place, on every rank."""
    if not group.is_alone:
        dist.all_reduce(tensor)
    return tensor


def largest(group: Group, value: float) -> float:
    """Return the largest of the ranks' values on every rank."""
    if group.is_alone:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return float(tensor)


def any_of(group: Group, value: bool) -> bool:
    """Say on every rank whether it is so on one of them."""
    return largest(group, float(value)) > 0


def copy_from_first(group: Group, tensors: list[Tensor]) -> None:
    """Give every rank the first one's values, in place."""
    if not group.is_alone:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def collect(group: Group, value: T) -> list[T]:
    """Return the values of all ranks, in their order, on every rank."""
    if group.is_alone:
        return [value]
    values: list[Any] = [None] * group.world_size
    dist.all_gather_object(values, value)
    return values


def on_first(group: Group, function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone; every rank returns, or raises, what it did there."""
    if group.is_alone:
        return function()
    outcome: list[Any] = [None, None]
    if group.is_first:
        try:
            outcome[0] = function()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]  # what rank 0's function returned


def local_first(group: Group, function: Callable[[], T]) -> T:
    """Call a function on each machine's first process, then on the others: for what fills a cache.

    An error that a user can mend is raised everywhere, so that nobody waits for ever.
    """
    if group.is_alone:
        return function()
    result, problem = None, None
    if group.local_rank == 0:
        try:
            result = function()
        except UserError as error:
            problem = error
    problems = [found for found in collect(group, problem) if found is not None]
    if problems:
        raise problems[0]
    return function() if result is None else result


def part(group: Group, length: int) -> slice:
    """Return which of ``length`` things are this rank's: disjoint, covering, in order."""
    first, last = (length * rank // group.world_size for rank in (group.rank, group.rank + 1))
    return slice(first, last)
