"""The most memory that a row's work needs, read in a fresh process of its own.

A server process imports torch once and then forks for every question, so that each answer comes
from a process that has run nothing else: allocators keep what earlier work needed. Run as a module
it is that server: one job as JSON a line in, one answer a line out.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from bench.record import MemoryFacts
from bench.spec import Frozen, Mode, ModelSpec, PositiveInt, Precision

if TYPE_CHECKING:
    from bench.workload import Workload

NUM_CALLS = 2  # optimisers and libraries allocate in the first, and the second has all of it


class MemoryJob(Frozen):
    """A row's work: which model, how it runs, on how many images."""

    model: ModelSpec
    device: str
    precision: Precision
    runtime: str
    mode: Mode
    batch_size: PositiveInt


def ran_out(answer: str) -> bool:
    """Tell whether a job failed because the memory did not suffice."""
    from bench.device import is_out_of_memory

    return "signal -9" in answer or is_out_of_memory(RuntimeError(answer))


class MemoryServer:
    """Answer `MemoryJob`s, each from a fresh process; idle, and silent, in between."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-m", "bench.memory"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> MemoryServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, job: MemoryJob) -> MemoryFacts | str:
        """Return what the job needs, or in one line why that is not known."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(job.model_dump_json() + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or "null")
        except (OSError, ValueError):
            answer = None
        if answer is None:
            return "the process that measures memory ended"
        return str(answer["error"]) if "error" in answer else MemoryFacts(**answer)


def serve() -> None:
    """Answer one job a line until stdin ends; the answers go where stdout went at the start."""
    # Imported before the first fork, so that no job waits for it.
    for name in ("bench.run", "bench.workload"):
        importlib.import_module(name)

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what exporters print is no answer
    for line in sys.stdin:
        job = MemoryJob.model_validate_json(line)
        answers.write(json.dumps(_in_child(job)) + "\n")
        answers.flush()


def _in_child(job: MemoryJob) -> dict[str, Any]:
    """Fork, do the job in the child, and return its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            json.dump(_answer(job), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return {"error": f"the process was ended by signal {os.waitstatus_to_exitcode(status)}"}
    return dict(json.loads(text))


def _answer(job: MemoryJob) -> dict[str, Any]:
    try:
        return measure(job).model_dump()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}


def measure(job: MemoryJob) -> MemoryFacts:
    """Do the job in this process, which should be a fresh one, and return what it needed."""
    from bench import device as devices
    from bench.peak import watch_memory

    if job.device == "cpu":
        _leave_room_for_others()
    devices.prepare(job.device)
    with watch_memory(job.device) as peak:
        work = _workload(job).work
        for _ in range(NUM_CALLS):
            work()
            devices.synchronizer(job.device)()
    peak_bytes, total_bytes, method = peak()
    return MemoryFacts(peak_bytes=peak_bytes, total_bytes=total_bytes, method=method)


def _leave_room_for_others() -> None:
    """Let allocations fail in this process before the system has to kill one, where it can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = psutil.Process().memory_info().vms + psutil.virtual_memory().available
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _workload(job: MemoryJob) -> Workload:
    import torch

    from bench.run import build
    from bench.workload import Setting, infer, training

    model = job.model
    setting = Setting(
        device=job.device,
        precision=job.precision,
        runtime=job.runtime,
        batch_size=job.batch_size,
        image_size=model.image_size,
        num_classes=model.num_classes,
        seed=0,
    )
    if job.mode == "train":
        return training(build(model), setting, check=False)
    with torch.inference_mode():
        return infer(build(model), setting, check=False)


if __name__ == "__main__":
    serve()
