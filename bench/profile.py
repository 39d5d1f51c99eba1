"""Measure what models cost: from a `ProfileSpec` to one record a row, in one sitting.

    models ──► cost without a clock
           ──► for each precision, mode and batch size: sessions of all models and runtimes
               ──► parity with eager fp32 ──► interleaved timing ──► records

Rows of a group are timed in turns, so that their ratios hold although the machine drifts. What a
device cannot run, runs wrong or has no memory for is a record with its reason.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench import device as devices
from bench import runtime, timing
from bench.environment import collect, utc_now
from bench.record import CostFacts, Environment, ParityFacts, ProfileRecord, TimingFacts
from bench.spec import Mode, ModelSpec, Precision, ProfileSpec, Scenario

Build = Callable[[ModelSpec], nn.Module]
Count = Callable[[nn.Module, int], CostFacts]

TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 1e-1, "fp16": 1e-2}
"""Largest allowed difference between logits, over the largest logit of eager fp32."""

NUM_BUFFERS = 4
MAX_BUFFER_BYTES = 1 << 29


@dataclass(frozen=True)
class Progress:
    """What a sitting is doing: a stage of one row, and how much of its time is used up."""

    stage: str
    row: str
    fraction: float
    group: int
    num_groups: int


@dataclass(frozen=True)
class Candidate:
    """A model to profile: built, counted, and how long building (or loading) it took."""

    spec: ModelSpec
    network: nn.Module
    cost: CostFacts
    build_s: float
    run_id: str | None = None


@dataclass(frozen=True)
class Group:
    """What the rows that take turns have in common."""

    mode: Mode
    precision: Precision
    batch_size: int


@dataclass(frozen=True)
class Row:
    """One model in one runtime."""

    model: ModelSpec
    runtime: str

    def __str__(self) -> str:
        return f"{self.model.name} {self.runtime}"


@dataclass(frozen=True)
class Prepared:
    """A row's outcome before timing: the work to time, or why there is none."""

    work: timing.Work | None
    status: Literal["ok", "unsupported", "wrong", "out_of_memory"] = "ok"
    reason: str | None = None
    build_s: float | None = None
    first_call_s: float = 0.0
    parity: ParityFacts | None = None


@dataclass(frozen=True)
class Sitting:
    """What all records of one process share."""

    spec: ProfileSpec
    environment: Environment
    candidates: Mapping[ModelSpec, Candidate]
    on_progress: Callable[[Progress], None]
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


def profile(
    spec: ProfileSpec,
    *,
    build: Build,
    count: Count,
    run_ids: Mapping[ModelSpec, str] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[ProfileRecord]:
    """Yield one record for each model, precision, runtime, mode, batch size and scenario.

    ``build`` returns a model on the CPU and ``count`` its cost of one image. Records come as soon
    as their group is timed; ending the iteration early loses nothing of what came before.
    """
    runtime.check(spec.runtimes)
    devices.prepare(spec.device)
    environment = collect(spec.device)
    candidates = {}
    for model in spec.models:
        on_progress(Progress("building", model.name, 0.0, 0, len(groups(spec))))
        candidates[model] = candidate(model, build, count, (run_ids or {}).get(model))
    sitting = Sitting(spec, environment, candidates, on_progress)
    for number, group in enumerate(groups(spec)):
        yield from profile_group(sitting, group, number)
        devices.release_memory(spec.device)


def groups(spec: ProfileSpec) -> list[Group]:
    """Return the groups of a profile in the order in which they are measured."""
    axes = itertools.product(spec.modes, spec.precisions, spec.batch_sizes)
    return [Group(*axis) for axis in axes]


def num_records(spec: ProfileSpec) -> int:
    """Return how many records a whole sitting leaves."""
    return sum(len(scenarios(group)) for group in groups(spec)) * len(rows(spec))


def candidate(model: ModelSpec, build: Build, count: Count, run_id: str | None) -> Candidate:
    """Build a model and count its cost."""
    begin = perf_counter()
    network = build(model).eval()
    build_s = perf_counter() - begin
    cost = count(network, model.image_size)
    if is_untrained(network):
        calibrate_norms(network, model.image_size)
    return Candidate(model, network, cost, build_s, run_id)


def is_untrained(network: nn.Module) -> bool:
    """Tell whether the BatchNorms have still the statistics that they are made with."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    return any(not norm.running_mean.any() for norm in norms if norm.running_mean is not None)


def calibrate_norms(network: nn.Module, image_size: int) -> None:
    """Give an untrained network the BatchNorm statistics of one batch of random images.

    With the initial ones (mean 0, variance 1) every residual block adds to the variance, and the
    logits of a deep network overflow fp16; a trained network's do not.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    former = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(random_images(16, image_size, seed=0))
    network.eval()
    for norm, momentum in zip(norms, former, strict=True):
        norm.momentum = momentum


def random_images(batch_size: int, image_size: int, *, seed: int) -> Tensor:
    """Return normal noise (B, 3, H, W), which is what normalised images look like to a clock."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, 3, image_size, image_size, generator=generator)


def profile_group(sitting: Sitting, group: Group, number: int) -> Iterator[ProfileRecord]:
    """Yield the records of one group: first what cannot be timed, then what was."""
    num_groups = len(groups(sitting.spec))

    def tell(stage: str, row: Row, fraction: float) -> None:
        sitting.on_progress(Progress(stage, str(row), fraction, number, num_groups))

    with _computing(sitting.spec.device, group):
        prepared = {}
        for row in rows(sitting.spec):
            tell("preparing", row, 0.0)
            prepared[row] = prepare_row(sitting, group, row)
        for row, outcome in prepared.items():
            if outcome.work is None:
                yield _record(sitting, group, "offline", row, outcome, None)
        for scenario in scenarios(group):
            for row, timed in _measure(sitting, prepared, scenario, tell).items():
                yield _record(sitting, group, scenario, row, prepared[row], timed)


@contextlib.contextmanager
def _computing(device: str, group: Group) -> Iterator[None]:
    """Set TF32 for the group, and inference mode where nothing is trained."""
    tf32 = devices.computing_in(device, "tf32" if group.precision == "tf32" else "fp32")
    with tf32, torch.inference_mode(group.mode == "infer"):
        yield


def rows(spec: ProfileSpec) -> list[Row]:
    """Return the rows of each group."""
    return [Row(model, name) for model in spec.models for name in spec.runtimes]


def scenarios(group: Group) -> list[Scenario]:
    """Return what is asked of a group: throughput, and for single images latency as well."""
    single = group.batch_size == 1 and group.mode == "infer"
    return ["offline", "single_stream"] if single else ["offline"]


def prepare_row(sitting: Sitting, group: Group, row: Row) -> Prepared:
    """Make a row ready to be timed: session, first call, parity; or find out why it is not."""
    device, precision = sitting.spec.device, group.precision
    problem = devices.precision_problem(device, precision)
    if problem:
        return Prepared(None, "unsupported", problem)
    try:
        return _prepare_infer(sitting, group, row)
    except runtime.Unsupported as error:
        return Prepared(None, "unsupported", str(error))
    except Exception as error:  # whatever a runtime raises is a row with its reason
        if devices.is_out_of_memory(error):
            devices.release_memory(device)
            return Prepared(None, "out_of_memory", f"batch size {group.batch_size} does not fit")
        return Prepared(None, "unsupported", first_line(error))


def first_line(error: Exception) -> str:
    """Return an error's name and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__


def _prepare_infer(sitting: Sitting, group: Group, row: Row) -> Prepared:
    device, network = sitting.spec.device, sitting.candidates[row.model].network
    images = buffers(group.batch_size, row.model.image_size, sitting.spec.seed)
    expected = reference_logits(network, images[0], device)
    begin = perf_counter()
    session = runtime.RUNTIMES[row.runtime](network, images[0], device, group.precision)
    inputs = [session.adapt(image) for image in images]
    build_s = perf_counter() - begin
    first_call_s, logits = _first_call(session, inputs[0], device)
    parity = compare(logits, expected, TOLERANCE[group.precision])
    if parity.error is None or parity.error > parity.tolerance:
        found = "not finite" if parity.error is None else f"off by {parity.error:.2g}"
        reason = f"logits are {found} from eager fp32's (tolerance {parity.tolerance:g})"
        return Prepared(None, "wrong", reason, build_s, first_call_s, parity)
    work = rotate(session.call, inputs)
    return Prepared(work, "ok", None, build_s, first_call_s, parity)


def buffers(batch_size: int, image_size: int, seed: int) -> list[Tensor]:
    """Return several inputs, so that no call finds its images in the cache from the last."""
    size = 4 * 3 * image_size**2 * batch_size
    number = max(2, min(NUM_BUFFERS, MAX_BUFFER_BYTES // size))
    return [random_images(batch_size, image_size, seed=seed + i) for i in range(number)]


def rotate(call: Callable[[Tensor], object], inputs: Sequence[Tensor]) -> timing.Work:
    """Return the work of calling with one input after the other, round and round."""
    following = itertools.cycle(inputs).__next__
    return lambda: call(following())


def reference_logits(network: nn.Module, images: Tensor, device: str) -> Tensor:
    """Return the logits (B, num_classes) of eager fp32 on the device, brought to the CPU."""
    session = runtime.eager(network, images, device, "fp32")
    with devices.computing_in(device, "fp32"):
        return session.call(session.adapt(images)).cpu()


def _first_call(session: runtime.Session, images: Tensor, device: str) -> tuple[float, Tensor]:
    clock = clock_of(device)
    begin = clock.read()
    logits = session.call(images)
    return clock.read() - begin, logits.float().cpu()


def compare(logits: Tensor, expected: Tensor, tolerance: float) -> ParityFacts:
    """Return how far logits lie from what is expected, over the largest expected logit."""
    error = float((logits - expected).abs().max() / expected.abs().max())
    return ParityFacts(error=error if error < float("inf") else None, tolerance=tolerance)


def clock_of(device: str) -> timing.Clock:
    """Return the clock that waits for the device."""
    clock = timing.Clock(synchronize=devices.synchronizer(device))
    events = devices.event_clock(device)
    return replace(clock, mark=events[0], between=events[1]) if events else clock


def _measure(
    sitting: Sitting, prepared: Mapping[Row, Prepared], scenario: Scenario, tell: timing.Tell
) -> dict[Row, TimingFacts]:
    works = {row: outcome.work for row, outcome in prepared.items() if outcome.work}
    if not works:
        return {}
    timed = timing.measure(
        works,
        sitting.spec.timing,
        clock_of(sitting.spec.device),
        scenario=scenario,
        seed=sitting.spec.seed,
        on_progress=tell,
    )
    return {
        row: facts.model_copy(update={"first_call_s": prepared[row].first_call_s})
        for row, facts in timed.items()
    }


def _record(
    sitting: Sitting,
    group: Group,
    scenario: Scenario,
    row: Row,
    outcome: Prepared,
    timed: TimingFacts | None,
) -> ProfileRecord:
    subject = sitting.candidates[row.model]
    return ProfileRecord(
        id=uuid.uuid4().hex[:12],
        sitting=sitting.id,
        status=outcome.status,
        reason=outcome.reason,
        created_at=utc_now(),
        model=row.model,
        run_id=subject.run_id,
        mode=group.mode,
        scenario=scenario,
        precision=group.precision,
        runtime=row.runtime,
        batch_size=group.batch_size,
        spec=sitting.spec.timing,
        cost=subject.cost,
        timing=timed,
        environment=sitting.environment,
        group=f"{group.mode}-{group.precision}-b{group.batch_size}-{scenario}",
        build_s=outcome.build_s,
        parity=outcome.parity,
    )
