"""An engine that is asked for jobs and does none: its nodes write what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.events import JobBegan, JobEnded
from bench.execute.jobs import TrainJob, encode
from bench.execute.launch import journal
from bench.execute.launch.launchers import Launcher
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec


def spec(seed: int) -> RunSpec:
    return RunSpec(
        model=ModelSpec(name="tiny"), data=DataSpec(), recipe=Recipe(name="r"), seed=seed
    )


def jobs(out: Path, number: int) -> list[TrainJob]:
    return [TrainJob(spec(seed), "refuse", out) for seed in range(number)]


@dataclass
class Engine:
    """An engine whose nodes write what a test says; ``ends`` are the ends of each job in turn."""

    ends: Callable[[Path, int], int | None]
    submitted: dict[str, int] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)

    def submit(self, folder: Path, exclusive: bool) -> str:
        times = self.submitted[folder.name] = self.submitted.get(folder.name, 0) + 1
        code = self.ends(folder, times)
        with (folder / journal.EVENTS).open("a") as events:
            events.write(encode(JobBegan("far", 1, 0.0)) + "\n")
            if code is not None:
                events.write(encode(JobEnded(code, f"code {code}" if code else None, 1.0)) + "\n")
        return f"{folder.name}/{times}"

    def launcher(self, max_jobs: int = 1000) -> Launcher:
        return Launcher(self.submit, lambda name: name not in self.living, lambda _: None, max_jobs)
