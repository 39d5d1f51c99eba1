"""One cell of an experiment in a process of its own: a run to train, or a sitting to profile.

Run as a module it reads its job from stdin, takes the folder to write to from the command line
(JSON has no way to write every path), and writes events, one as JSON a line, where stdout went at
the start. Its exit code is the command line's: 2 for what a user can mend, 75 when it was
preempted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from bench.errors import EXIT_USAGE, UserError
from bench.events import Event, Profiling, RunDone, StepDone
from bench.execute.test_spec import TestSpec
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record, write_record
from bench.signals import EXIT_PREEMPTED, Preempted, Stopped, stoppable
from bench.spec.profile import ProfileSpec
from bench.spec.run import ModelSpec, RunSpec

if TYPE_CHECKING:
    from bench.measure.prepare import Progress


STEP_EVERY_S = 0.1  # more often nobody reads how far a training is


@dataclass(frozen=True)
class TrainJob:
    """A run to train below ``out``; what to do with an unfinished one is `train_run`'s."""

    spec: RunSpec
    if_unfinished: Literal["refuse", "resume", "restart"]
    out: Path = Path()
    task: Literal["train"] = "train"

    @property
    def name(self) -> str:
        return self.spec.folder_name()

    @property
    def folder(self) -> Path:
        return self.out / self.name


@dataclass(frozen=True)
class ProfileJob:
    """A sitting whose records go below ``out``, beside the folders of the runs of its models.

    ``run_ids`` names those runs: what is profiled are their weights, tested on ``test``; a model
    whose run left none is profiled untrained.
    """

    spec: ProfileSpec
    run_ids: tuple[tuple[ModelSpec, str], ...]
    out: Path = Path()
    test: TestSpec | None = None
    task: Literal["profile"] = "profile"

    @property
    def name(self) -> str:
        return f"profile-{self.spec.digest()}"

    @property
    def folder(self) -> Path:
        return self.out / self.spec.digest()


Job = TrainJob | ProfileJob
_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="task")])
_EVENTS: dict[str, TypeAdapter[Event]] = {
    event.__name__: TypeAdapter(event) for event in get_args(Event)
}


def job_text(job: Job) -> str:
    """Return a job as one line of JSON, without a newline and the folder to write to."""
    return json.dumps(_JOB.dump_python(job, mode="json", exclude={"out"}))


def read_job(text: str, out: Path) -> Job:
    """Return the job that `job_text` wrote, to be done below ``out``."""
    return replace(_JOB.validate_json(text), out=out)


def encode(event: Event) -> str:
    """Return an event as one line of JSON, without a newline and the folder it is about."""
    if isinstance(event, RunDone):
        event = replace(event, folder="")
    name = type(event).__name__
    return json.dumps([name, _EVENTS[name].dump_python(event, mode="json")])


def decode(line: str, job: Job) -> Event:
    """Return the event of a job in a line that `encode` made."""
    name, facts = json.loads(line)
    event = _EVENTS[name].validate_python(facts)
    return replace(event, folder=str(job.folder)) if isinstance(event, RunDone) else event


def do(job: Job, emit: Callable[[Event], None]) -> None:
    """Carry a job out in this process."""
    if isinstance(job, TrainJob):
        _train(job, emit)
    else:
        _profile(job, emit)


def _train(job: TrainJob, emit: Callable[[Event], None]) -> None:
    from bench.execute import checks, train_run

    # Whoever made the job has read the data before, and told of it.
    dataset, data_s = train_run.load_data(job.spec.data, lambda event: None)
    checks.check_batch_size(job.spec, len(dataset.train))
    train_run.train_run(
        job.spec, dataset, job.out, emit=emit, if_unfinished=job.if_unfinished, data_s=data_s
    )


def _profile(job: ProfileJob, emit: Callable[[Event], None]) -> None:
    from bench.compute.model import build
    from bench.execute import lock
    from bench.execute.test_sets import load_test_set
    from bench.measure.cost import count
    from bench.measure.profile import profile

    weights = dict(_weights(job))
    test_set = None
    if job.test is not None and weights:
        test_set = load_test_set(job.test, weights, lambda event: None)
    with lock.held(job.folder):
        for record in profile(
            job.spec,
            build=lambda model: build(model, weights=weights.get(model)),
            count=count,
            run_ids=dict(job.run_ids),
            on_progress=lambda progress: emit(as_event(progress)),
            test_set=test_set,
            trained=weights,
        ):
            write_record(job.folder / f"{record.id}.json", record)


def _weights(job: ProfileJob) -> Iterator[tuple[ModelSpec, str]]:
    """Yield the models whose runs left weights, and where these lie."""
    from bench.execute.run_folder import WEIGHTS

    for model, run_id in job.run_ids:
        path = job.out.parent / run_id / WEIGHTS
        if path.is_file():
            yield model, str(path)


def as_event(progress: Progress) -> Event:
    """Return a profile's progress as an event."""
    done = (progress.group + progress.fraction) / max(1, progress.num_groups)
    return Profiling(progress.stage, progress.row, min(1.0, done))


def profiles_in(folder: Path) -> list[ProfileRecord]:
    """Return the profile records of a folder that can be read; the report names the others."""
    return list(_readable(folder))


def _readable(folder: Path) -> Iterator[ProfileRecord]:
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        if not path.is_file():
            continue
        try:
            record = read_record(path)
        except (OSError, ValueError):
            continue
        if isinstance(record, ProfileRecord):
            yield record


def main() -> None:
    """Do the job on stdin, then leave with the exit code that says what became of it."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no event
    job = read_job(sys.stdin.readline(), Path(sys.argv[1]))
    try:
        with stoppable():
            do(job, _teller(events))
    except (Preempted, Stopped) as reason:
        _leave(str(reason), EXIT_PREEMPTED)
    except ValueError as error:
        if not _is_the_users(error):
            raise
        _leave(f"error: {error}", EXIT_USAGE)


def _is_the_users(error: ValueError) -> bool:
    import senet

    return isinstance(error, UserError | senet.ModelError)


def _leave(message: str, code: int) -> None:
    print(" ".join(message.split("\n")), file=sys.stderr)  # noqa: T201  # it is what is read
    sys.exit(code)


def _teller(events: IO[str]) -> Callable[[Event], None]:
    """Return what writes events for the process that reads them, steps now and then."""
    told: dict[str, Any] = {"step": -STEP_EVERY_S}

    def emit(event: Event) -> None:
        if isinstance(event, StepDone):
            if monotonic() - told["step"] < STEP_EVERY_S:
                return
            told["step"] = monotonic()
        try:
            events.write(encode(event) + "\n")
            events.flush()
        except BrokenPipeError:  # nobody is there any more: save and end, as if asked to
            os.kill(os.getpid(), signal.SIGTERM)

    return emit


if __name__ == "__main__":
    main()
