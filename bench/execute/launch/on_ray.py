"""Jobs by Ray: each is an actor that outlives the conductor, on whichever node has room."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RuntimeEnvSetupError,
)

from bench.errors import UserError, said, unknown
from bench.events import JobEnded
from bench.execute.jobs import encode
from bench.execute.launch import carry
from bench.execute.launch.journal import EVENTS, size
from bench.execute.launch.launchers import Launcher, take
from bench.execute.launch.node import work

NAMESPACE = "senet-bench"
OPTIONS = ("address", "num_cpus", "num_gpus", "max_jobs", "scratch")
REACH_S = 5.0
LEAVE_S = 5.0  # for a job that is over to end as Ray has it
FETCH_S = 600.0  # a folder of some hundred megabytes, by a slow network
# What is raised of an actor that is gone, or that never was there.
DEAD = (ValueError, RayActorError, RuntimeEnvSetupError)


class Worker:
    """The process of one job, which it begins by itself: whoever asked for it may be gone then."""

    def __init__(self, folder: bytes, home: bytes) -> None:
        with contextlib.suppress(OSError):  # where a job's relative paths begin
            os.chdir(home)
        self.is_over = threading.Event()
        threading.Thread(target=self._work, args=(folder,)).start()

    def _work(self, folder: bytes) -> None:
        """Do the job of a folder, and end, though nobody asks."""
        try:
            work(folder)
        finally:
            self.is_over.set()
            time.sleep(LEAVE_S)
            os._exit(0)

    def last(self) -> None:
        """Answer never: who asks is told of the end, and wakes nobody up beside a measurement."""
        self.is_over.wait()
        # Of any other exit Ray warns the command.
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


class Away:
    """The process of a job in a folder of its own node; it stays until what it made is fetched."""

    def __init__(self, folder: str, sent: carry.Packed) -> None:
        self.folder, self.is_over = Path(folder), False
        threading.Thread(target=self._work, args=(sent,)).start()

    def _work(self, sent: carry.Packed) -> None:
        """Do the job that was sent."""
        try:
            carry.settle_in(sent, self.folder)
            work(os.fsencode(self.folder))
        finally:
            self.is_over = True

    def news(self, offset: int) -> tuple[bytes, bool]:
        """Return what was told behind the first bytes, and whether that is all."""
        is_over, path = self.is_over, self.folder / EVENTS
        return path.read_bytes()[offset:] if path.exists() else b"", is_over

    def made(self) -> carry.Packed:
        """Return the files of the job."""
        return carry.pack(self.folder)

    def leave(self) -> None:
        """Remove the folder, and end."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        os._exit(0)


def open_launcher(options: dict[str, Any], runs: Path) -> Launcher:
    """Return the launcher; UserError for options of none, no cluster, and too few CPUs or GPUs."""
    for name in options:
        if name not in OPTIONS:
            raise unknown("option of the ray launcher", name, OPTIONS)
    num_cpus = take(options, "num_cpus", 1)
    num_gpus = take(options, "num_gpus", 0, fewest=0)
    max_jobs = take(options, "max_jobs", 1000)
    scratch = options.get("scratch")
    if scratch is not None and not Path(str(scratch)).is_absolute():
        raise UserError(f"launcher option scratch is a folder of every node, /…, not {scratch!r}")
    _connect(str(options.get("address", "auto")))
    for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
        most = max((node["Resources"].get(kind, 0) for node in _nodes()), default=0)
        if wanted > most:
            raise UserError(
                f"a job is to have {wanted} {kind}s; the largest node of the cluster has {most:g}"
            )
    asked: dict[str, Any] = {}  # the answers that are awaited, by job
    if scratch is not None:
        submit = partial(_submit, num_cpus, num_gpus, Path(str(scratch)))
        gone: set[str] = set()
        dead, bring = partial(_has_left, gone), partial(_bring, asked, gone)
        return Launcher(submit, dead, _cancel, max_jobs, ray.shutdown, bring=bring, engine="ray")
    submit = partial(_submit, num_cpus, num_gpus, None)
    dead = partial(_is_dead, asked)
    return Launcher(submit, dead, _cancel, max_jobs, ray.shutdown, engine="ray")


def _connect(address: str) -> None:
    """Join the cluster; UserError where there is none, which Ray alone would wait for."""
    if ray.is_initialized():
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon:
            socket.create_connection((host, int(port)), REACH_S).close()
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"no Ray cluster can be reached at {address}: {said(error)}") from None


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _submit(
    num_cpus: int,
    num_gpus: int,
    scratch: Path | None,
    folder: Path,
    exclusive: bool,
) -> str:
    """Start the actor of a folder's job; alone on a node it has all the CPUs and GPUs of it."""
    if exclusive:
        largest = max(_nodes(), key=lambda node: _size(node, num_gpus))
        num_cpus = int(largest["Resources"].get("CPU", 1))
        num_gpus = int(largest["Resources"].get("GPU", 0))
    name = f"{folder.name}-{uuid.uuid4().hex[:8]}"
    # A thread pool of its own size, so that jobs that share a node do not share cores.
    threads = {"OMP_NUM_THREADS": str(num_cpus)}
    own = os.environ.get("PYTHONPATH")
    paths = {"PYTHONPATH": own} if own else {}  # else those of the node
    made: Any = ray.remote(Worker if scratch is None else Away)
    settings = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": 0,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "runtime_env": {"env_vars": threads | paths},
    }
    given: tuple[Any, ...] = (os.fsencode(folder.resolve()), os.getcwdb())
    if scratch is not None:
        given = (str(scratch / name / folder.name), carry.send_out(folder))
    made.options(**settings).remote(*given)
    return name


def _size(node: dict[str, Any], num_gpus: int) -> tuple[float, float]:
    """Return how large a node is: with GPUs before others where jobs have GPUs, then by CPUs."""
    has = node["Resources"]
    return float(has.get("GPU", 0)) if num_gpus else 0.0, float(has.get("CPU", 0))


def _is_dead(asked: dict[str, Any], name: str) -> bool:
    """Tell whether the actor of a job is gone: it ends itself when its job has ended."""
    try:
        if name not in asked:
            asked[name] = ray.get_actor(name, namespace=NAMESPACE).last.remote()
        if _is_there(asked[name]):
            ray.get(asked.pop(name))
    except ActorUnavailableError:  # it may be there, and would be done twice
        return False
    except DEAD:
        return True
    return False


def _is_there(answer: Any) -> bool:
    """Tell whether something that was asked for has come, without waiting for it."""
    return bool(ray.wait([answer], timeout=0)[0])


def _has_left(gone: set[str], name: str) -> bool:
    """Tell whether the actor of a job that writes elsewhere is gone."""
    try:
        ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return True
    return name in gone


def _bring(asked: dict[str, Any], gone: set[str], name: str, folder: Path) -> None:
    """Add what a job has told to its events here; its folder first when it has ended."""
    try:
        actor: Any = ray.get_actor(name, namespace=NAMESPACE)
        if name not in asked:
            asked[name] = actor.news.remote(size(folder))
        if not _is_there(asked[name]):
            return
        text, is_over = ray.get(asked.pop(name))
        made = ray.get(actor.made.remote(), timeout=FETCH_S) if is_over else None
    except (GetTimeoutError, ActorUnavailableError):
        return
    except DEAD:
        gone.add(name)
        return
    if made is not None:
        try:
            carry.take_home(made, folder)
        except carry.Damaged as error:
            text = encode(JobEnded(1, str(error), 0.0)).encode() + b"\n"
    if text:
        with (folder / EVENTS).open("ab") as events:
            events.write(text)
    if is_over:
        gone.add(name)
        actor.leave.remote()


def _cancel(name: str) -> None:
    """End an actor; what it started notices that nobody reads any more, saves and ends."""
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))
