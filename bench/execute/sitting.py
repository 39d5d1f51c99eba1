"""Wire a profile's sitting: models by name or from weights, records into files, fresh processes.

Run as a module this is the fresh process: a job as JSON on stdin, events as JSON lines on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from bench.compute.model import build
from bench.errors import UserError
from bench.events import Event, Preparing
from bench.execute.test_sets import load_test_set
from bench.execute.test_spec import TestSpec
from bench.measure.accuracy import TestSet
from bench.measure.cost import count
from bench.measure.peak_memory import MemoryServer
from bench.measure.prepare import Progress
from bench.measure.profile import profile
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record, write_record
from bench.spec.profile import ProfileSpec
from bench.spec.run import ModelSpec
from bench.spec.values import Frozen
from senet import ModelError

Tell = Callable[[Progress], None]
Warn = Callable[[str], None]


class SittingJob(Frozen):
    """A profile to measure, where its models' weights come from, and where its records go.

    With ``test`` the sessions of weights are tested on that data set, and int8 is calibrated there.
    """

    spec: ProfileSpec
    out: str
    weights: str | None = None
    run_id: str | None = None
    test: TestSpec | None = None


def measure(
    job: SittingJob, tell: Tell, warn: Warn, server: MemoryServer | None = None
) -> Iterator[ProfileRecord]:
    """Measure in this process; each record is a file in ``job.out`` before it is yielded."""
    for record, _ in _measure(job, tell, warn, server):
        yield record


def _measure(
    job: SittingJob, tell: Tell, warn: Warn, server: MemoryServer | None = None
) -> Iterator[tuple[ProfileRecord, Path]]:
    def built(model: ModelSpec) -> nn.Module:
        return build(model, weights=job.weights)

    run_ids = dict.fromkeys(job.spec.models, job.run_id) if job.run_id else {}
    trained = job.spec.models if job.weights else ()
    test_set = _test_set(job, tell, warn)
    for record in profile(
        job.spec,
        build=built,
        count=count,
        run_ids=run_ids,
        on_progress=tell,
        on_warning=warn,
        server=server,
        test_set=test_set,
        trained=trained,
    ):
        path = Path(job.out) / f"{file_name(record)}.json"
        write_record(path, record)
        yield record, path


def _test_set(job: SittingJob, tell: Tell, warn: Warn) -> TestSet | None:
    """Return the test set of a sitting; None, and one line that says why, where there is none."""
    if job.test is None or job.weights is None:
        if job.spec.accuracy and "infer" in job.spec.modes:
            why = "no data set is named (--dataset)" if job.weights else "no trained weights"
            warn(f"accuracy is not measured: {why}")
        return None

    def emit(event: Event) -> None:
        if isinstance(event, Preparing):
            tell(Progress(f"reading the data: {event.what}", "", 0.0, 0, 1))

    try:
        return load_test_set(job.test, job.spec.models, emit)
    except UserError as error:
        if job.test.required or "int8" in job.spec.precisions:
            raise
        warn(f"accuracy is not measured: {error}")
        return None


def file_name(record: ProfileRecord) -> str:
    """Return a readable, unique name for a record's file."""
    device = record.environment.device.replace(":", "")
    parts = (record.model.file_name(), device, record.precision, record.runtime)
    return "-".join((*parts, record.mode, f"b{record.batch_size}", record.scenario, record.id))


def repeat(job: SittingJob, times: int, tell: Tell, warn: Warn) -> Iterator[ProfileRecord]:
    """Measure the same ``times`` times, each in a fresh process, as one series.

    This process sleeps meanwhile: it wakes for what the other says, which says nothing while it is
    timing.
    """
    series = uuid.uuid4().hex[:12]
    for number in range(times):
        changes = {"series": series, "seed": job.spec.seed + number}
        spec = job.spec.model_copy(update=changes)
        again = job.model_copy(update={"spec": spec})
        prefix = f"process {number + 1} of {times}: "
        yield from _in_fresh_process(again, prefix, tell, warn)


def _in_fresh_process(
    job: SittingJob, prefix: str, tell: Tell, warn: Warn
) -> Iterator[ProfileRecord]:
    process = subprocess.Popen(
        (sys.executable, "-m", "bench.execute.sitting"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(job.model_dump_json())
        process.stdin.close()
        for line in process.stdout:
            record = _told(json.loads(line), prefix, tell, warn)
            if record is not None:
                yield record
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status := process.wait():
        raise UserError(f"{prefix}the process that measures ended with status {status}")


def _told(event: dict[str, Any], prefix: str, tell: Tell, warn: Warn) -> ProfileRecord | None:
    """Pass on what the other process says; return the record where that is one."""
    match event:
        case {"progress": facts}:
            tell(Progress(**(facts | {"stage": prefix + facts["stage"]})))
        case {"warning": warning}:
            warn(prefix + warning)
        case {"error": error}:
            raise UserError(str(error))
        case {"record": path}:
            record = read_record(Path(path))
            assert isinstance(record, ProfileRecord)
            return record
    return None


def main() -> int:
    """Measure the job on stdin, and say on stdout what happens, save while something is timed."""
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no event
    job = SittingJob.model_validate_json(sys.stdin.read())

    def say(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    def tell(progress: Progress) -> None:
        if progress.stage != "timing":
            say(progress=asdict(progress))

    try:
        for _, path in _measure(job, tell, lambda warning: say(warning=warning)):
            say(record=str(path))
    except (UserError, ModelError) as error:
        say(error=str(error))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
