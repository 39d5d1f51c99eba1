"""The record of a profile: what one row of a sitting took."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from bench.record.cost import CostFacts
from bench.record.deployment import (
    DeploymentAccuracy,
    EndToEndFacts,
    QuantizationFacts,
    ServerFacts,
)
from bench.record.environment import Environment
from bench.record.run import SCHEMA_VERSION
from bench.spec.profile import TimingSpec
from bench.spec.run import ModelSpec
from bench.spec.values import Frozen, Mode, NonNegativeInt, Precision, Scenario


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


# Above these shares of the cores for other work, or for other guests, a row's times are theirs.
STARVED_SHARE: Final = 0.25
STARVED_STEAL: Final = 0.1


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

    @property
    def starved(self) -> bool:
        """Tell whether the work had so little of the machine that its times are others' times."""
        busy = (self.other_cpu_share or 0.0) > STARVED_SHARE
        return busy or (self.steal_share or 0.0) > STARVED_STEAL


class ProfileRecord(Frozen):
    """The cost of one model on one device, precision, runtime, mode and batch size.

    A combination that the device cannot run has ``status`` ``unsupported`` (or ``wrong`` where its
    logits, gradients or accuracy differ from eager fp32's) with a ``reason``, and no timing. Rows
    of one ``sitting`` and ``group`` took turns; sittings of one ``series`` repeat each other in
    fresh processes. ``load_s`` is what building the model and loading its weights took, ``build_s``
    what the runtime took before its first call. ``wanted_batch_size`` is what was asked for where a
    batch size was found by trying. ``accuracy`` is that of the very session that is timed; where it
    is None, no accuracy of another stands in for it. ``weight_bytes`` is what the weights take on
    disk.
    """

    kind: Literal["profile"] = "profile"
    schema_version: Literal[1, 2] = SCHEMA_VERSION
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
    accuracy: DeploymentAccuracy | None = None
    quantization: QuantizationFacts | None = None
    weight_bytes: int | None = None
    end_to_end: EndToEndFacts | None = None
    server: ServerFacts | None = None


FLAGS: dict[str, str] = {
    "noisy": "the blocks' quartiles are more than 10 % of the median apart",
    "unstable": "the blocks' quartiles are more than 25 % of the median apart",
    "spiky": "a block took more than 5 times the median",
    "few_blocks": "the time limit came before the wanted number of blocks",
    "imprecise": "the interval of a call's time is wider than ±10 %",
    "unsteady_warmup": "calls were still getting faster or slower when warm-up ended",
    "sittings_disagree": "sittings of this row are more than 10 % apart",
    "coarse_clock": "reading the clock and synchronising cost more than the wanted share",
    "clock_stopped": "the clock did not advance over a block",
    "clock_backward": "the clock went backwards over a block",
}
