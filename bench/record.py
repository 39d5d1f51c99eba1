"""What was found: run records and profile records, strict JSON, versioned, written whole.

Format history:
    1  first published form.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from bench.errors import UserError
from bench.spec import (
    Frozen,
    Mode,
    ModelSpec,
    NonNegativeInt,
    Precision,
    RunSpec,
    Scenario,
    TimingSpec,
    first_problem,
)

SCHEMA_VERSION: Final = 1


class Environment(Frozen):
    """Where something was measured; samples from different environments are never pooled."""

    host: str
    os: str
    python: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    device: str
    device_name: str
    driver: str | None
    cpu_model: str
    cpu_isa: str
    num_cores: int
    num_threads: int
    memory_bytes: int
    load_1min: float | None
    flags: dict[str, str]
    env: dict[str, str]
    started_at: str

    @property
    def freed_memory(self) -> str | None:
        """What became of freed memory, see `bench.heap`; None on a GPU and in old records."""
        return self.flags.get("freed_memory")


class DatasetFacts(Frozen):
    """Which images a run saw. ``digest`` is the SHA-256 of all pixels and labels."""

    name: str
    label: str
    digest: str
    num_train: int
    num_test: int
    classes: tuple[str, ...]
    image_size: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]


class EpochFacts(Frozen):
    """One epoch of training; ``epoch_wall_s`` is training alone, ``throughput`` in img/s.

    ``top1`` is that of the augmented training images while they are learnt, ``val_top1`` that of
    the held-out images after the epoch. ``skipped_steps`` are those whose fp16 gradients
    overflowed, after which the loss scale is halved; ``overflow_streak`` is how many of them came
    in a row at most.
    """

    epoch: int
    loss: float
    top1: float
    lr: float
    num_images: int
    epoch_wall_s: float
    throughput: float
    skipped_steps: int = 0
    overflow_streak: int = 0
    val_top1: float | None = None


class Accuracy(Frozen):
    """Test accuracy after the last epoch; ``top1`` and ``top5`` are fractions of ``num_images``.

    ``top5`` is ``None`` with five classes or fewer, where it would be 1 by definition.
    """

    num_images: int
    top1_correct: int
    top5_correct: int | None
    top1: float
    top5: float | None
    loss: float


class FileFacts(Frozen):
    """A file beside the record and its SHA-256."""

    name: str
    sha256: str


class ValidationFacts(Frozen):
    """The training images that were held out; ``digest`` is the SHA-256 of their indices."""

    num_images: int
    digest: str


class RuntimeTrial(Frozen):
    """What `--runtime auto` measured: img/s of each candidate, why others were not tried."""

    throughput: dict[str, float] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)


class RunRecord(Frozen):
    """One trained or loaded model: its epochs, its accuracy, its files.

    Seconds are those of reading the data (``data_s``), building the model (``build_s``), choosing
    a runtime (``trial_s``), compiling or capturing (``compile_s``), classifying the held-out
    images (``val_s``) and the test set (``eval_s``), and saving (``checkpoint_s``); none of them
    is in an epoch's. ``runtime`` is the one that was trained in. ``macs`` are those of an image
    (see `CostFacts`).
    """

    kind: Literal["run"] = "run"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    status: Literal["finished", "diverged"]
    reason: str | None = None
    created_at: str
    spec: RunSpec
    dataset: DatasetFacts
    environment: Environment
    params: int
    macs: int | None = None
    epochs: tuple[EpochFacts, ...]
    test: Accuracy | None
    weights: FileFacts | None
    predictions: FileFacts | None
    data_s: float
    build_s: float
    eval_s: float
    checkpoint_s: float
    warnings: tuple[str, ...] = ()
    runtime: str | None = None
    trial: RuntimeTrial | None = None
    trial_s: float = 0.0
    compile_s: float = 0.0
    val_s: float = 0.0
    validation: ValidationFacts | None = None
    target_s: float | None = None

    def with_target(self) -> RunRecord:
        """Return the record with ``target_s`` for the target of its specification."""
        target = self.spec.target_top1
        return self.model_copy(
            update={"target_s": None if target is None else self.seconds_to(target)}
        )

    def seconds_to(self, top1: float) -> float | None:
        """Return the seconds of training alone until ``val_top1`` was first so high, or None."""
        seconds = 0.0
        for epoch in self.epochs:
            seconds += epoch.epoch_wall_s
            if epoch.val_top1 is not None and epoch.val_top1 >= top1:
                return seconds
        return None


class CostPart(Frozen):
    """The share that one kind of operator has, in one stage, of the cost of one image.

    ``stage`` is ``stem``, ``stage1`` … ``stage4`` or ``head``; ``kind`` is ``conv``, ``linear``,
    ``norm``, ``activation``, ``pooling``, ``add``, ``se_squeeze``, ``se_fc``, ``se_relu``,
    ``se_gate``, ``se_scale`` or ``other``. The counts are those of `CostFacts`.
    """

    stage: str
    kind: str
    operators: int
    params: int
    macs: int
    activations: int
    weight_bytes: int
    activation_bytes: int


class CostFacts(Frozen):
    """Cost without a clock, of one image.

    ``macs`` are the multiply-accumulates of convolutions and linear layers without bias and
    ``flops`` is twice that; ``uncounted`` says how often each operator that ``macs`` leaves out is
    launched. ``operators`` are the launches of an eager call, ``activations`` the elements that
    convolutions and linear layers write (Radosavovic et al., 2003.13678), ``param_bytes`` the size
    of the parameters. Bytes are moved as if nothing were fused or cached: each operator reads its
    inputs and writes its outputs once, in fp32; ``weight_bytes`` (parameters and statistics) once
    a batch, ``activation_bytes`` once an image. ``parts`` add up to all of these.
    """

    params: int
    macs: int
    flops: int
    uncounted: dict[str, int]
    operators: int | None = None
    activations: int | None = None
    param_bytes: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    parts: tuple[CostPart, ...] = ()

    def bytes_moved(self, batch_size: int = 1) -> int | None:
        """Return the bytes that one call on ``batch_size`` images moves."""
        if self.weight_bytes is None or self.activation_bytes is None:
            return None
        return self.weight_bytes + batch_size * self.activation_bytes


class TimingFacts(Frozen):
    """Raw block times of one row, from which every statistic is derived.

    Block ``i`` made ``block_iters[i]`` calls in ``block_s[i]`` seconds, in round
    ``block_round[i]`` of the sitting; blocks of one group and round were timed next to each
    other, so that their ratio is taken round by round. ``event_s`` is the same block by the
    device's own events, and ``device_s`` single calls by them, given to the device while it is
    still busy, so that it never waits for the host. ``warmup_s`` includes the calls that settle
    caches before a block, ``warmup_iters`` does not. ``first_call_s`` holds what a runtime compiles
    when it is first called; ``compile_cached`` tells whether that was found on disk, as an earlier
    process had left it, and is None where nothing is compiled.
    """

    block_s: tuple[float, ...]
    block_iters: tuple[int, ...]
    first_call_s: float
    warmup_s: float
    warmup_iters: int
    steady: bool
    flags: tuple[str, ...] = ()
    block_round: tuple[int, ...] = ()
    event_s: tuple[float, ...] | None = None
    device_s: tuple[float, ...] | None = None
    overhead_s: float = 0.0
    compile_cached: bool | None = None


class ParityFacts(Frozen):
    """How far a row's result lies from eager fp32 on the same input.

    ``error`` is the largest difference between logits over the largest logit; in training the norm
    of the difference between gradients over the norm of the gradient. ``None`` stands for a result
    that is not finite.
    """

    error: float | None
    tolerance: float
    of: Literal["logits", "gradients"] = "logits"


class SplitFacts(Frozen):
    """Training steps in their three parts, in seconds, the device waited for after each part.

    Waiting costs a little, so the parts add up to somewhat more than a step of `TimingFacts`.
    """

    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    update_s: tuple[float, ...]


class BreakdownFacts(Frozen):
    """Where the time of one eager call goes: seconds by stage and kind of operator.

    Every operator is timed alone, the device waited for after it; ``call_s`` is one whole call
    timed as usual, which is shorter by what overlaps. All of ``num_calls`` took ``timed_s``.
    """

    seconds: dict[str, dict[str, float]]
    num_calls: int
    call_s: float
    timed_s: float = 0.0


ALLOCATOR_PEAK: Final = "CUDA allocator's peak"  # counts bytes: the same in every process


class MemoryFacts(Frozen):
    """The most memory that a fresh process needed for this row's work.

    ``peak_bytes`` is what model, inputs and activations took; ``total_bytes`` counts what the
    process held before, or the allocator keeps, as well. ``method`` says by what it was read.
    """

    peak_bytes: int
    total_bytes: int
    method: str


class EnergyFacts(Frozen):
    """Joules of the whole device over a window of seconds; None with a reason where not read."""

    joules: float | None = None
    window_s: float | None = None
    num_images: int | None = None
    source: str | None = None
    reason: str | None = None


class MachineFacts(Frozen):
    """What the machine can do at most, measured in the same sitting: the roofline.

    ``matmul_flops`` are the FLOP/s of large matrix products by precision, ``conv_flops`` those of a
    3×3 convolution on the CPU, whose library may be faster than the one for matrix products;
    ``copy_bytes_per_s`` is what a copy of a large tensor reads and writes. All of them were timed
    in ``timed_s`` seconds.
    """

    matmul_flops: dict[str, float]
    conv_flops: dict[str, float] = Field(default_factory=dict)
    copy_bytes_per_s: float
    timed_s: Annotated[float, Field(ge=0)] = 0.0

    def peak_flops(self, precision: str) -> float | None:
        """Return the most FLOP/s that were reached in a precision; None when it was not tried."""
        reached = (flops.get(precision, 0.0) for flops in (self.matmul_flops, self.conv_flops))
        return max(reached) or None


class NoiseFacts(Frozen):
    """What else the machine did while a group of rows was timed, and how fast it ran.

    Shares are of all usable cores. ``throttled`` counts throttling events or names reasons.
    """

    load_1min: float | None = None
    other_cpu_share: float | None = None
    steal_share: float | None = None
    cpu_mhz: float | None = None
    on_battery: bool | None = None
    throttled: tuple[str, ...] = ()
    gpu_mhz: int | None = None
    gpu_processes: int | None = None
    gpu_temperature_c: int | None = None


class ProfileRecord(Frozen):
    """The cost of one model on one device, precision, runtime, mode and batch size.

    A combination that the device cannot run has ``status`` ``unsupported`` (or ``wrong`` where
    its logits or gradients differ from eager fp32) with a ``reason``, and no timing. Rows of one
    ``sitting`` and ``group`` took turns; sittings of one ``series`` repeat each other in fresh
    processes. ``load_s`` is what building the model and loading its weights took, ``build_s`` what
    the runtime took before its first call. ``wanted_batch_size`` is what was asked for where a
    batch size was found by trying.
    """

    kind: Literal["profile"] = "profile"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    sitting: str
    status: Literal["ok", "unsupported", "wrong", "out_of_memory"]
    reason: str | None = None
    created_at: str
    model: ModelSpec
    run_id: str | None = None
    mode: Mode
    scenario: Scenario
    precision: Precision
    runtime: str
    batch_size: NonNegativeInt
    spec: TimingSpec
    cost: CostFacts
    timing: TimingFacts | None
    environment: Environment
    warnings: tuple[str, ...] = ()
    group: str = ""
    series: str | None = None
    load_s: float | None = None
    build_s: float | None = None
    wanted_batch_size: str | None = None
    parity: ParityFacts | None = None
    split: SplitFacts | None = None
    breakdown: BreakdownFacts | None = None
    memory: MemoryFacts | None = None
    energy: EnergyFacts | None = None
    machine: MachineFacts | None = None
    noise: NoiseFacts | None = None


Record = Annotated[RunRecord | ProfileRecord, Field(discriminator="kind")]
_RECORD: TypeAdapter[RunRecord | ProfileRecord] = TypeAdapter(Record)


def to_json(record: RunRecord | ProfileRecord) -> str:
    """Return strict JSON (no NaN, no infinity), two spaces deep, ending in a newline."""
    data = record.model_dump(mode="json")
    return json.dumps(data, allow_nan=False, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> RunRecord | ProfileRecord:
    """Return the record in ``text``; ValueError says in one line why there is none."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not strict JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") not in ("run", "profile"):
        raise ValueError("not a record of senet-bench (no kind of run or profile)")
    if data.get("schema_version") != SCHEMA_VERSION:
        version = data.get("schema_version")
        raise ValueError(f"schema version {version!r}; this program reads {SCHEMA_VERSION}")
    try:
        return _RECORD.validate_python(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON allows")


def write_whole(path: Path, *parts: bytes | memoryview, exclusive: bool = False) -> None:
    """Write a file so that a reader sees all of it or none: temporary file, fsync, rename.

    Raises UserError when the folder cannot be written to or the disk is full, and, if
    ``exclusive``, when there is a file of that name by then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that nobody else may read
        _put_in_place(name, path, exclusive)
    except FileExistsError:
        raise UserError(f"{path} is there already; records are never overwritten") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _put_in_place(name: str, path: Path, exclusive: bool) -> None:
    """Give a finished temporary file its name, durably."""
    if exclusive:
        _link(name, path)
    else:
        os.replace(name, path)
    with contextlib.suppress(OSError):  # not every system opens folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link(name: str, path: Path) -> None:
    """Rename without replacing; FileExistsError when the name is taken."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: two writers at once are not told apart
        if path.exists():
            raise FileExistsError from None
        os.replace(name, path)


def write_record(path: Path, record: RunRecord | ProfileRecord) -> None:
    """Write a record whole; one that is already there is never overwritten (UserError)."""
    write_whole(path, to_json(record).encode(), exclusive=True)


def read_record(path: Path) -> RunRecord | ProfileRecord:
    """Return the record in a file; ValueError or OSError says why there is none."""
    return from_json(path.read_text(encoding="utf-8"))
