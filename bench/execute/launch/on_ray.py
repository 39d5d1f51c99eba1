"""Jobs by Ray: each is an actor that outlives the conductor, on whichever node has room."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from bench.errors import UserError, unknown
from bench.execute.launch.launchers import Launcher, take
from bench.execute.launch.node import work

NAMESPACE = "senet-bench"
ANSWER_S = 1.0
OPTIONS = ("address", "num_cpus", "num_gpus", "max_jobs")


class Worker:
    """The process of one job; the second thread tells that it lives."""

    def work(self, folder: bytes) -> int:
        """Do the job of a folder; return its exit code."""
        try:
            return work(folder)
        finally:  # so that who asks later, from another process, is told that it is over
            threading.Timer(1.0, os._exit, (0,)).start()

    def lives(self) -> bool:
        """Answer, which only a process can that is there."""
        return True


def open_launcher(options: dict[str, Any], runs: Path) -> Launcher:
    """Return the launcher; UserError for options of none, no cluster, and too few CPUs or GPUs."""
    for name in options:
        if name not in OPTIONS:
            raise unknown("option of the ray launcher", name, OPTIONS)
    num_cpus = take(options, "num_cpus", 1)
    num_gpus = take(options, "num_gpus", 0, fewest=0)
    max_jobs = take(options, "max_jobs", 1000)
    address = str(options.get("address", "auto"))
    if not ray.is_initialized():
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise UserError(f"no Ray cluster can be reached at {address}: {why}") from None
    for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
        most = max((node["Resources"].get(kind, 0) for node in _nodes()), default=0)
        if wanted > most:
            raise UserError(
                f"a job is to have {wanted} {kind}s; the largest node of the cluster has {most:g}"
            )
    started: dict[str, Any] = {}
    submit = partial(_submit, started, num_cpus, num_gpus)
    return Launcher(submit, partial(_is_dead, started), _cancel, max_jobs, ray.shutdown)


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _submit(
    started: dict[str, Any], num_cpus: int, num_gpus: int, folder: Path, exclusive: bool
) -> str:
    """Start the actor of a folder's job; alone on a node it has all the CPUs and GPUs of it."""
    if exclusive:
        largest = max(_nodes(), key=lambda node: float(node["Resources"].get("CPU", 0)))
        num_cpus = int(largest["Resources"].get("CPU", 1))
        num_gpus = int(largest["Resources"].get("GPU", 0))
    name = f"{folder.name}-{uuid.uuid4().hex[:8]}"
    # A thread pool of its own size, so that jobs that share a node do not share cores.
    threads = {"OMP_NUM_THREADS": str(num_cpus)}
    paths = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    made: Any = ray.remote(Worker)
    settings = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": 0,
        "max_concurrency": 2,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "runtime_env": {"env_vars": threads | paths},
    }
    actor = made.options(**settings).remote()
    started[name] = actor.work.remote(os.fsencode(folder.resolve()))
    return name


def _is_dead(started: dict[str, Any], name: str) -> bool:
    """Tell whether a job has ended or its actor is gone, with its node or alone."""
    if name in started:
        done, _ = ray.wait([started[name]], timeout=0)
        if done:
            _cancel(name)
        return bool(done)
    try:  # handed over by another conductor: an actor ends itself when its job has ended
        actor: Any = ray.get_actor(name, namespace=NAMESPACE)
        ray.get(actor.lives.remote(), timeout=ANSWER_S)
    except GetTimeoutError:  # waiting for room, or busy
        return False
    except (ValueError, RayActorError):
        return True
    return False


def _cancel(name: str) -> None:
    """End an actor; what it started notices that nobody reads any more, saves and ends."""
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))
