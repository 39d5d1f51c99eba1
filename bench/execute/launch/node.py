"""What a scheduler runs on a node: the job that lies in a folder, its events into a file there.

folder/job.jsonl ──► a process of its own ──► folder/events.jsonl, which the conductor follows

Whoever sees the folder sees how far the job is, now or later, from anywhere.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.events import Event, JobBegan, JobEnded, RunStarted
from bench.execute.jobs import Job, TrainJob, job_text, read_job, resumed
from bench.execute.launch.journal import journal
from bench.execute.process import carry_out
from bench.record.files import write_whole
from bench.signals import EXIT_PREEMPTED, Preempted

JOB = "job.jsonl"  # reports read every .json as a record
LAUNCHED = "launched.jsonl"  # by which name its engine knows the job
SEEN = "seen"


@dataclass(frozen=True)
class Assignment:
    """A job and the seconds that it may take."""

    job: Job
    timeout_s: float | None = None


def write_assignment(folder: Path, assignment: Assignment) -> None:
    """Put a job where a node finds it; a run that is there already is gone on with."""
    job = assignment.job
    if isinstance(job, TrainJob) and job.if_unfinished == "refuse":
        job = resumed(job)  # it may be another node that goes on
    facts = {"job": json.loads(job_text(job)), "timeout_s": assignment.timeout_s}
    write_whole(folder / JOB, json.dumps(facts).encode())


def read_assignment(folder: Path) -> Assignment:
    """Return the job in a folder, to be done there whatever the folder is called here."""
    facts = json.loads((folder / JOB).read_text(encoding="utf-8"))
    job = read_job(json.dumps(facts["job"]), folder)
    if isinstance(job, TrainJob):
        job = replace(job, out=folder.parent)
    return Assignment(job, facts["timeout_s"])


def work(folder: str | bytes) -> int:
    """Do the job of a folder in a process of its own; return its exit code, 75 if preempted.

    A folder without a job only asks whether it is seen.
    """
    place = Path(os.fsdecode(folder))
    if not (place / JOB).exists():
        (place / SEEN).touch()
        return 0
    assignment = read_assignment(place)
    if cores := os.environ.get("SLURM_CPUS_PER_TASK"):  # not every Slurm binds a job to its cores
        os.environ.setdefault("OMP_NUM_THREADS", cores)

    def hear(event: Event) -> None:
        tell(event)
        if isinstance(event, RunStarted):  # the scheduler itself may begin it once more
            write_assignment(place, replace(assignment, job=resumed(assignment.job)))

    try:
        with journal(place) as tell:
            tell(JobBegan(socket.gethostname(), os.getpid(), time.time()))
            ended = carry_out(assignment.job, hear, assignment.timeout_s)
            tell(JobEnded(ended.code, ended.reason, ended.wall_s, ended.last_lines))
    except Preempted:
        return EXIT_PREEMPTED
    return 1 if ended.code is None else abs(ended.code)


if __name__ == "__main__":
    sys.exit(work(sys.argv[1]))
