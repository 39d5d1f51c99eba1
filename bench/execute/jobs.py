"""A job: a run to train, or a sitting to profile, as data that any process can be given.

Run as a module it reads a job from stdin, takes the folder to write to from the command line (JSON
has no way to write every path), and writes events, one as JSON a line, where stdout went at the
start. Its exit code is the command line's: 2 for what a user can mend, 75 when it was preempted.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, TypeAdapter

from bench.errors import EXIT_USAGE, UserError
from bench.events import Emit, Event, Preparing, Profiling, RowDone, RunDone, StepDone, Warned
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record, write_record
from bench.signals import EXIT_PREEMPTED, Preempted, Stopped, stoppable
from bench.spec.profile import ProfileSpec
from bench.spec.run import ModelSpec, RunSpec
from bench.spec.test_set import TestSpec

if TYPE_CHECKING:
    from bench.measure.accuracy import TestSet
    from bench.measure.resources.peak_memory import MemoryServer


STEP_EVERY_S = 0.1  # more often nobody reads how far a training is


@dataclass(frozen=True)
class TrainJob:
    """A run to train below ``out``; what to do with an unfinished one is `train_run`'s.

    The images must have the ``digest``, wherever they are read; None takes any.
    """

    spec: RunSpec
    if_unfinished: Literal["refuse", "resume", "restart"]
    out: Path = Path()
    digest: str | None = None
    task: Literal["train"] = "train"

    @property
    def name(self) -> str:
        return self.spec.folder_name()

    @property
    def folder(self) -> Path:
        return self.out / self.name


@dataclass(frozen=True)
class ProfileJob:
    """A sitting whose records go into ``out``.

    ``run_ids`` names the runs of its models and ``weights`` the files of those that are trained;
    the others are profiled as they are drawn. The sessions of weights are tested on ``test``, and
    int8 is calibrated there. With ``alone`` nobody else may write into the folder meanwhile.
    """

    spec: ProfileSpec
    run_ids: tuple[tuple[ModelSpec, str], ...] = ()
    weights: tuple[tuple[ModelSpec, str], ...] = ()
    test: TestSpec | None = None
    alone: bool = False
    out: Path = Path()
    task: Literal["profile"] = "profile"

    @property
    def name(self) -> str:
        return f"profile-{self.spec.digest()}"

    @property
    def folder(self) -> Path:
        return self.out


Job = TrainJob | ProfileJob


def resumed(job: Job) -> Job:
    """Return a job that goes on with what there is of it."""
    return replace(job, if_unfinished="resume") if isinstance(job, TrainJob) else job


_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="task")])
_EVENTS: dict[str, TypeAdapter[Event]] = {
    event.__name__: TypeAdapter(event) for event in get_args(Event)
}


def job_text(job: Job) -> str:
    """Return a job as one line of JSON, without a newline and the folder to write to."""
    return json.dumps(_JOB.dump_python(job, mode="json", exclude={"out"}))


def read_job(text: str, out: Path) -> Job:
    """Return the job that `job_text` wrote, to be done below ``out``."""
    # By Python's reader: a path that is no UTF-8 has letters that pydantic's refuses.
    return replace(_JOB.validate_python(json.loads(text)), out=out)


def encode(event: Event) -> str:
    """Return an event as one line of JSON, without a newline and the folder it is about."""
    if isinstance(event, RunDone):
        event = replace(event, folder="")
    name = type(event).__name__
    return json.dumps([name, _EVENTS[name].dump_python(event, mode="json")])


def decode(line: str, folder: Path) -> Event:
    """Return the event of a folder's job in a line that `encode` made."""
    name, facts = json.loads(line)
    event = _EVENTS[name].validate_python(facts)
    return replace(event, folder=str(folder)) if isinstance(event, RunDone) else event


def do(job: Job, emit: Emit, server: MemoryServer | None = None) -> None:
    """Carry a job out in this process; a ``server`` that was started before saves a sitting time.

    Raises UserError (or senet's ModelError) for what a user can mend, `Preempted` and `Stopped`
    where a signal asked for an end.
    """
    if isinstance(job, TrainJob):
        _train(job, emit)
    else:
        _profile(job, emit, server)


def _train(job: TrainJob, emit: Emit) -> None:
    from bench.execute import checks, train_run

    # Whoever made the job has read the data before, and told of it.
    dataset, data_s = train_run.load_data(job.spec.data, lambda event: None)
    if job.digest not in (None, dataset.digest):
        raise UserError(
            f"the images of {job.spec.data.name} on {socket.gethostname()} are others than those"
            " of the experiment"
        )
    checks.check_batch_size(job.spec, len(dataset.train))
    train_run.train_run(
        job.spec, dataset, job.out, emit=emit, if_unfinished=job.if_unfinished, data_s=data_s
    )


def _profile(job: ProfileJob, emit: Emit, server: MemoryServer | None) -> None:
    from bench.compute.model import build
    from bench.execute import lock
    from bench.measure.count.cost import count
    from bench.measure.profile import profile
    from bench.measure.rows import is_complete

    weights, test_set = dict(job.weights), _test_set(job, emit)
    with lock.held(job.folder) if job.alone else nullcontext():
        if job.alone and is_complete(job.spec, profiles_in(job.folder)):
            return  # who handed it over died before that was noted, and another one did so again
        for record in profile(
            job.spec,
            build=lambda model: build(model, weights=weights.get(model)),
            count=count,
            run_ids=dict(job.run_ids),
            on_progress=emit,
            on_warning=lambda warning: emit(Warned(warning)),
            server=server,
            test_set=test_set,
            trained=weights,
        ):
            write_record(job.folder / f"{file_name(record)}.json", record)
            emit(RowDone(record))


def _test_set(job: ProfileJob, emit: Emit) -> TestSet | None:
    """Return the test set of a sitting; None, and a warning that says why, where there is none."""
    from bench.execute.deploy.test_sets import load_test_set

    if job.test is None or not job.weights:
        if job.spec.accuracy and "infer" in job.spec.modes:
            why = "no data set is named (--dataset)" if job.weights else "no trained weights"
            emit(Warned(f"accuracy is not measured: {why}"))
        return None

    def reading(event: Event) -> None:
        if isinstance(event, Preparing):
            emit(Profiling(f"reading the data: {event.what}", "", 0.0))

    try:
        return load_test_set(job.test, dict(job.weights), reading)
    except UserError as error:
        if job.test.required or "int8" in job.spec.precisions:
            raise
        emit(Warned(f"accuracy is not measured: {error}"))
        return None


def file_name(record: ProfileRecord) -> str:
    """Return a readable, unique name for a record's file."""
    device = record.environment.device.replace(":", "")
    parts = (record.model.file_name(), device, record.precision, record.runtime)
    return "-".join((*parts, record.mode, f"b{record.batch_size}", record.scenario, record.id))


def put_aside(folder: Path, records: Iterable[ProfileRecord]) -> None:
    """Rename the files of records, so that nothing reads them any more and nothing is lost."""
    ids = {record.id for record in records}
    for path in sorted(folder.glob("*.json")) if ids else []:
        if path.stem.rpartition("-")[2] in ids or path.stem in ids:
            path.replace(path.with_suffix(".json.old"))


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
    message, code = outcome(read_job(sys.stdin.readline(), Path(sys.argv[1])), teller(events))
    if code:
        print(message, file=sys.stderr)  # noqa: T201  # it is what is read
        sys.exit(code)


def outcome(job: Job, emit: Emit) -> tuple[str, int]:
    """Do a job in this process; return what there is to say of its end, and the exit code.

    What is neither the user's to mend nor an end that was asked for is raised.
    """
    try:
        with stoppable():
            do(job, emit)
    except (Preempted, Stopped) as reason:
        return _one_line(str(reason)), EXIT_PREEMPTED
    except ValueError as error:
        if not _is_the_users(error):
            raise
        return _one_line(f"error: {error}"), EXIT_USAGE
    return "", 0


def _is_the_users(error: ValueError) -> bool:
    import senet

    return isinstance(error, UserError | senet.ModelError)


def _one_line(message: str) -> str:
    return " ".join(message.split("\n"))


def teller(events: IO[str], step_every_s: float = STEP_EVERY_S) -> Emit:
    """Return what writes events for the process that reads them, steps now and then.

    Nothing is told while a row is being timed: whoever reads would wake up beside it.
    """
    last_step_s = -step_every_s

    def emit(event: Event) -> None:
        nonlocal last_step_s
        if isinstance(event, Profiling) and event.stage == "timing":
            return
        if isinstance(event, StepDone):
            if monotonic() - last_step_s < step_every_s:
                return
            last_step_s = monotonic()
        try:
            events.write(encode(event) + "\n")
            events.flush()
        except BrokenPipeError:  # nobody is there any more: save and end, as if asked to
            os.kill(os.getpid(), signal.SIGTERM)

    return emit


if __name__ == "__main__":
    main()
