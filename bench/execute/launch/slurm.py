"""Jobs by submitit: on Slurm, or with ``cluster=local`` in processes of this machine."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import submitit
import torch
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.local import local
from submitit.slurm.slurm import SlurmExecutor

from bench.errors import UserError, unknown
from bench.execute import lock
from bench.execute.launch.launchers import Launcher, take
from bench.execute.launch.node import work
from bench.execute.launch.suite import running
from bench.machine.cores import threads_for, usable_cores

GPUS = "CUDA_VISIBLE_DEVICES"
UNLIMITED_MIN = 60 * 24 * 365  # of a local job, which submitit else ends after two minutes
MAY_BE_NONE = ("gpus_per_node", "num_gpus", "signal_delay_s")
LOGS = "launcher"  # where submitit keeps its files, below the runs
ASK_EVERY_S = 8.0  # that Slurm's accounting is asked about all jobs
ANSWER_S = 60.0
# What Slurm's accounting calls a job that is over (sacct, "JOB STATE CODES").
DEAD = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}


def open_launcher(options: dict[str, Any], runs: Path) -> Launcher:
    """Return the launcher; UserError for options of none and where there is no Slurm."""
    cluster = options.pop("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise unknown("cluster", str(cluster), ("slurm", "local"))
    threads = threads_for()
    fitting = max(1, usable_cores() // threads)  # jobs whose threads are disjoint
    gpus = options.get("gpus_per_node", torch.cuda.device_count() if cluster == "local" else 0)
    usual = 1 if gpus else fitting
    max_jobs = take(options, "max_jobs", 1000 if cluster == "slurm" else usual)
    _check(options)
    if cluster == "local" and max_jobs > 1 and gpus:
        raise UserError(
            "submitit gives all local jobs the same GPUs: set max_jobs=1, or gpus_per_node=0 for"
            " jobs of CPUs, or use Ray"
        )
    if cluster == "local" and max_jobs > fitting:
        raise UserError(
            f"{max_jobs} jobs of {threads} threads do not fit on {usable_cores()} cores: max_jobs"
            f" is {fitting} at most, or set OMP_NUM_THREADS"
        )
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UserError("no Slurm can be reached from here: there is no sbatch")
    # What warns of the end of a job's time: at this signal, unlike at submitit's own, a job saves.
    JobEnvironment.USR_SIG = os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"
    submit = partial(_submit, cluster, options, runs / LOGS)
    if cluster == "local":
        options.setdefault("timeout_min", UNLIMITED_MIN)
        engine = f"slurm with cluster=local on {socket.gethostname()}"
        return Launcher(submit, _has_gone, _interrupt, max_jobs, is_remote=False, engine=engine)
    accounting = _Accounting(running(runs).values())
    return Launcher(
        lambda folder, exclusive: accounting.add(submit(folder, exclusive)),
        accounting.is_dead,
        partial(_cancel, runs / LOGS),
        max_jobs,
        engine="slurm",
    )


def _check(options: dict[str, Any]) -> None:
    """Raise UserError for an option that submitit has not, or that has another type there."""
    shared = submitit.AutoExecutor._typed_parameters()
    known = {*shared, *SlurmExecutor._valid_parameters()}
    for name, value in options.items():
        if name.removeprefix("slurm_") not in known:
            raise unknown("option of the slurm launcher", name, sorted(known))
        wanted = shared.get(name, object)
        if not isinstance(value, (int, float) if wanted is float else wanted):
            told = f"launcher option {name} is of type {wanted.__name__}, not {value!r}"
            raise UserError(told)
        if not isinstance(value, bool) and isinstance(value, int | float):
            _check_number(name.removeprefix("slurm_"), value)


def _check_number(name: str, value: float) -> None:
    """Raise UserError for a number that no job can have."""
    if name in ("nodes", "tasks_per_node", "ntasks_per_node"):
        if value != 1:  # each task would do the job once more
            raise UserError(f"a job is one process on one node: {name} is 1, not {value}")
    elif value < 0 or (value == 0 and name not in MAY_BE_NONE):
        least = "0 or more" if name in MAY_BE_NONE else "more than 0"
        raise UserError(f"launcher option {name} is {least}, not {value}")


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as submitit calls them: those of Slurm alone have a prefix."""
    shared = submitit.AutoExecutor._typed_parameters()
    return {
        name if name in shared or name.startswith("slurm_") else f"slurm_{name}": value
        for name, value in options.items()
    }


def _submit(
    cluster: str, options: dict[str, Any], logs: Path, folder: Path, exclusive: bool
) -> str:
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    alone = {"slurm_exclusive": True} if exclusive and cluster == "slurm" else {}
    executor.update_parameters(name="senet-bench", **_named(options), **alone)
    place = os.fsencode(folder.resolve())
    try:
        if cluster == "slurm":
            return str(executor.submit(work, place).job_id)
        with _outliving():
            job_id = executor.submit(_work_here, place, _visible(options)).job_id
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"not submitted: {' '.join(str(error).split())}") from None
    return f"{job_id}@{lock.ticks(int(job_id))}"


@contextlib.contextmanager
def _outliving() -> Iterator[None]:
    """Let what submitit starts inside the block lead a session of its own.

    Signals for this command's group (Ctrl-C, timeout, the end of the terminal) do not reach it.
    """
    detached = partial(subprocess.Popen, start_new_session=True)
    vars(local).update(subprocess=SimpleNamespace(**vars(subprocess) | {"Popen": detached}))
    try:
        yield
    finally:
        vars(local).update(subprocess=subprocess)


def _visible(options: dict[str, Any]) -> str | None:
    """Return the GPUs of a local job: of those seen here so many as it is to have, or all."""
    seen, number = os.environ.get(GPUS), options.get("gpus_per_node")
    if number is None:
        return seen
    names = [str(n) for n in range(number)] if seen is None else seen.split(",")
    return ",".join(names[:number])


def _work_here(folder: bytes, gpus: str | None) -> int:
    """Do a job with its GPUs anew: of those that nobody asked for submitit hides all."""
    os.environ.pop(GPUS, None)
    if gpus is not None:
        os.environ[GPUS] = gpus
    return work(folder)


class _Accounting:
    """Slurm's word on jobs, for which all of them are asked about at once, now and then."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        self.living = set(job_ids)
        self.states: dict[str, str] = {}
        self.asked_at = -math.inf

    def add(self, job_id: str) -> str:
        """Ask about a job from the next time on; return it."""
        self.living.add(job_id)
        return job_id

    def is_dead(self, job_id: str) -> bool:
        """Tell whether Slurm says that a job is over; one that it does not know yet is not."""
        if self.states.get(job_id) in DEAD:
            return True
        is_new = job_id not in self.living
        self.living.add(job_id)
        if is_new or time.monotonic() - self.asked_at >= ASK_EVERY_S:
            self._ask()
        return self.states.get(job_id) in DEAD

    def _ask(self) -> None:
        """Note the states of the jobs that were not over; where there is no answer, as before."""
        command = ["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(self.living)]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=ANSWER_S
            )
            for line in told.stdout.splitlines():
                job_id, _, state = line.partition("|")
                self.states[job_id] = state.partition(" ")[0]  # behind it: CANCELLED by whom
        self.living = {name for name in self.living if self.states.get(name) not in DEAD}
        self.asked_at = time.monotonic()


def _cancel(logs: Path, job_id: str) -> None:
    submitit.SlurmJob(logs, job_id).cancel()


def _has_gone(job_id: str) -> bool:
    """Tell whether a process of this machine is over; its own parent reaps it here.

    Another one may have its number by now: after a restart of the machine many have.
    """
    pid, _, began = job_id.partition("@")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)
    try:
        is_over = psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    return is_over or began != str(lock.ticks(int(pid)))


def _interrupt(job_id: str) -> None:
    """Ask the process tree of a local job to end; the job saves."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(int(job_id.partition("@")[0])).children():
            process.send_signal(signal.SIGTERM)
