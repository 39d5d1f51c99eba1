"""The most memory that a row's work needs, read in a fresh process of its own.

A server process imports torch once and then forks for every question, so that each answer comes
from a process that has run nothing else: allocators keep what earlier work needed. Run as a module
it is that server: one job as JSON a line in, one answer a line out.

The standard library's forkserver (multiprocessing) does the same, but never as a copy of a process
that has imported torch already: measured beside this one on two busy cores, its first answer came
after 8.7 s, for which a copy of this process needs 2.2 s, and three more took 7.5 s instead of 6.6.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NoReturn

import psutil

from bench.record.profile import MemoryFacts
from bench.spec.profile import RowSpec
from bench.spec.run import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from bench.measure.workload import Workload


NUM_CALLS = 2  # more steps than the first, in which the optimiser's memory may not be there yet
CAN_FORK = sys.platform == "linux"  # elsewhere a GPU cannot be used in a forked process
ENDED = "the process that measures memory ended"


def ran_out(answer: str) -> bool:
    """Tell whether a job failed because the memory did not suffice."""
    from bench.machine.device_memory import is_out_of_memory

    return "signal -9" in answer or is_out_of_memory(RuntimeError(answer))


class MemoryServer:
    """Answer for rows, each from a fresh process; idle, and silent, in between.

    With ``fork`` the server is a copy of this process, which saves importing torch a second time:
    only for a process that has imported it but computed nothing yet, because threads of a pool and
    a GPU's context do not survive in a copy. Else the server is started anew and best made early:
    importing what it needs takes seconds, which pass meanwhile.
    """

    def __init__(self, *, fork: bool = False) -> None:
        self._end: Callable[[], None]
        if fork and CAN_FORK:
            self._jobs, self._answers, self._end = _forked()
        else:
            self._jobs, self._answers, self._end = _started()
        self._is_ready = False
        self._asked: deque[RowSpec] = deque()
        self._answered: dict[RowSpec, MemoryFacts | str] = {}

    def __enter__(self) -> MemoryServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def expect(self, rows: Iterable[RowSpec]) -> None:
        """Let the server work on rows that will be asked for, one after the other, in background.

        `wait` before anything is timed.
        """
        for row in rows:
            if self._send(row):
                self._asked.append(row)

    def wait(self) -> None:
        """Return when nothing is imported or measured any more and the machine is quiet again."""
        if not self._is_ready:
            self._answers.readline()
            self._is_ready = True
        while self._asked:
            row = self._asked.popleft()
            self._answered[row] = self._receive()

    def ask(self, row: RowSpec) -> MemoryFacts | str:
        """Return what the row needs, or in one line why that is not known."""
        self.wait()
        if row in self._answered:
            return self._answered.pop(row)
        return self._receive() if self._send(row) else ENDED

    def _send(self, row: RowSpec) -> bool:
        try:
            self._jobs.write(row.model_dump_json() + "\n")
            self._jobs.flush()
        except (OSError, ValueError):  # ValueError: closed
            return False
        return True

    def _receive(self) -> MemoryFacts | str:
        try:
            answer = json.loads(self._answers.readline() or "null")
        except (OSError, ValueError):
            answer = None
        if answer is None:
            return ENDED
        return str(answer["error"]) if "error" in answer else MemoryFacts(**answer)


def _started() -> tuple[IO[str], IO[str], Callable[[], None]]:
    """Start a server anew; return where jobs go, where answers come from, and what ends it."""
    process = subprocess.Popen(
        (sys.executable, "-m", "bench.measure.resources.peak_memory"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def end() -> None:
        process.kill()
        process.communicate()

    return process.stdin, process.stdout, end


def _forked() -> tuple[IO[str], IO[str], Callable[[], None]]:
    """Go on as a server in a copy of this process; returns what `_started` does."""
    jobs_out, jobs_in = os.pipe()
    answers_out, answers_in = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(jobs_in)
        os.close(answers_out)
        _serve_and_leave(jobs_out, answers_in)
    os.close(jobs_out)
    os.close(answers_in)
    jobs, answers = os.fdopen(jobs_in, "w"), os.fdopen(answers_out)

    def end() -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answers.close()
        with contextlib.suppress(BrokenPipeError):
            jobs.close()

    return jobs, answers, end


def _serve_and_leave(jobs: int, answers: int) -> NoReturn:
    """Serve in a forked process, silently; Ctrl-C is for the other one, which then ends this."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        with os.fdopen(jobs) as lines, os.fdopen(answers, "w") as out:
            serve(lines, out)
    finally:
        os._exit(0)


def serve(jobs: Iterable[str], answers: IO[str]) -> None:
    """Answer one job a line until there are no more."""
    if CAN_FORK:  # imported before the first fork, so that no job waits for it
        for name in ("bench.execute.train_run", "bench.measure.workload"):
            importlib.import_module(name)
    answers.write("ready\n")
    answers.flush()
    for line in jobs:
        answers.write(json.dumps(_in_child(line) if CAN_FORK else _in_process(line)) + "\n")
        answers.flush()


def _in_child(line: str) -> dict[str, Any]:
    """Fork, do the job in the child, and return its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            json.dump(_answer(line), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return dict(json.loads(text)) if text else _ended(os.waitstatus_to_exitcode(status))


def _in_process(line: str) -> dict[str, Any]:
    """Do the job in a new process, where a forked one cannot use the device."""
    command = (sys.executable, "-m", "bench.measure.resources.peak_memory", "once")
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=False)
    answers = done.stdout.splitlines()
    return dict(json.loads(answers[-1])) if answers else _ended(done.returncode)


def _ended(status: int) -> dict[str, Any]:
    return {"error": f"the process was ended by signal {status}"}


def _answer(line: str) -> dict[str, Any]:
    try:
        return measure(RowSpec.model_validate_json(line)).model_dump()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}


def measure(row: RowSpec) -> MemoryFacts:
    """Do a row's work in this process, which should be a fresh one, and return what it needed."""
    from bench.machine import clock, numerics
    from bench.machine.peak import watch_memory
    from bench.measure.workload import computing

    if row.device == "cpu":
        _leave_room_for_others()
    numerics.prepare(row.device)
    network = _network(row.model)
    with computing(row.device, row.precision, row.mode), watch_memory(row.device) as peak:
        work = _workload(row, network).work
        for _ in range(NUM_CALLS if row.mode == "train" else 0):
            work()
            clock.synchronizer(row.device)()
    peak_bytes, total_bytes, method = peak()
    return MemoryFacts(peak_bytes=peak_bytes, total_bytes=total_bytes, method=method)


def _leave_room_for_others() -> None:
    """Let allocations fail in this process before the system has to kill one, where it can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    from bench.machine.device_memory import free_bytes

    limit = psutil.Process().memory_info().vms + free_bytes("cpu")
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _network(model: ModelSpec) -> nn.Module:
    """Return the model with any weights: how much memory they take does not depend on them."""
    import torch

    from bench.compute.model import build

    if model.origin is not None:  # what is not ours may hold more than its state
        return build(model)
    with torch.device("meta"):
        network = build(model)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(1)  # memory that nothing was written to is not there yet
    return network


def _workload(row: RowSpec, network: nn.Module) -> Workload:
    from bench.measure.workload import infer, training

    if row.mode == "train":
        return training(network, row, seed=0, check=False)
    return infer(network, row, seed=0, check=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["once"]:
        print(json.dumps(_answer(sys.stdin.readline())))  # noqa: T201  # the answer
    else:
        out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what exporters print is no answer
        serve(sys.stdin, out)
