"""What a job costs of ours, above what its engine takes for it.

``pytest tests/perf/test_launchers.py --benchmark-enable`` hands 1,000 jobs that do nothing to
submitit's local executor (``NUM_JOBS`` says how many), once as the engine alone does them, once as
jobs of a suite: written down, handed over, followed, settled. Without benchmarks a few show that
the same calls work.
"""

import os
import time
from collections import deque
from pathlib import Path

import pytest

from bench.events import JobBegan, JobEnded
from bench.execute.jobs import TrainJob, encode
from bench.execute.launch import node, suite
from bench.execute.launch.journal import EVENTS
from bench.execute.launch.launchers import Launcher
from bench.execute.lock import ticks
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec

MAX_JOBS = 2
MOST_S = 0.05


def nothing(folder):
    """Do what a node does around a job, and no job."""
    place = Path(os.fsdecode(folder))
    node.read_assignment(place)
    with (place / EVENTS).open("a") as events:
        for event in (JobBegan("here", os.getpid(), time.time()), JobEnded(0, None, 0.0)):
            events.write(encode(event) + "\n")


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    """Return what starts jobs as the launcher of submitit's local executor does."""
    submitit = pytest.importorskip("submitit")
    from bench.execute.launch import slurm

    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    executor = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="local")

    def submit(folder, exclusive):
        pid = int(executor.submit(nothing, os.fsencode(folder)).job_id)
        return f"{pid}@{ticks(pid)}"

    return Launcher(submit, slurm._has_gone, slurm._interrupt, MAX_JOBS, is_remote=False)


def jobs_in(out, number):
    """Return jobs with folders that are there."""
    model, recipe = ModelSpec(name="tiny"), Recipe(name="r")
    specs = [RunSpec(model=model, data=DataSpec(), recipe=recipe, seed=n) for n in range(number)]
    made = [TrainJob(spec, "refuse", out) for spec in specs]
    for job in made:
        node.write_assignment(job.folder, node.Assignment(job))
    return made


def by_the_engine(launcher, jobs):
    """Start the jobs, as many at a time as a suite would, and wait for the last."""
    waiting, running = deque(jobs), []
    while waiting or running:
        while waiting and len(running) < launcher.max_jobs:
            running.append(launcher.submit(waiting.popleft().folder, False))
        running = [job_id for job_id in running if not launcher.is_dead(job_id)]
        time.sleep(0.01)


def test_a_job_costs_little_above_its_engine(benchmark, request, launcher, tmp_path):
    """Each way in turn; a quarter of the jobs is done either way before, unmeasured."""
    measured = request.config.getoption("--benchmark-enable")
    number = int(os.environ.get("NUM_JOBS", "1000")) if measured else 4
    seconds, told = {}, []
    for place, count in (("warm", max(1, number // 4)), ("timed", number)):
        ways = {
            "engine": lambda jobs: by_the_engine(launcher, jobs),
            "suite": lambda jobs: suite.carry_out_all(jobs, launcher, told.append),
        }
        for name, way in ways.items():
            told.clear()
            jobs = jobs_in(tmp_path / place / name, count)
            begin = time.perf_counter()
            assert not way(jobs)
            seconds[name] = time.perf_counter() - begin
            ended = [(job.folder / EVENTS).read_text().count("JobEnded") for job in jobs]
            assert ended == [1] * count
    assert len(told) == 2 * number
    overhead_s = (seconds["suite"] - seconds["engine"]) / number
    benchmark.extra_info.update(
        jobs=number,
        engine_s=seconds["engine"] / number,
        overhead_ms=1000 * overhead_s,
        wanted=f"overhead ≤ {1000 * MOST_S:.0f} ms a job",
    )
    benchmark.pedantic(jobs_in, [tmp_path / "last", 1])
    if measured:
        assert overhead_s <= MOST_S
