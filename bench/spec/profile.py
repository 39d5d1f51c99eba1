"""A profile: which models are timed, how, and for how long."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    model_validator,
)

from bench.spec.run import ModelSpec, _digest
from bench.spec.values import (
    Frozen,
    Mode,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Precision,
    Seed,
)


class TimingSpec(Frozen):
    """How long and how finely to time one row.

    A block is a number of calls between two clock readings, the device synchronised at its end.
    Blocks are about ``block_s`` long, and longer where reading the clock and synchronising would
    cost more than ``sync_share`` of them. Timing goes on until the 95 % interval of the ratio
    between the models compared is within ±``rel_precision``, at least ``min_blocks`` a row and at
    most ``max_s`` seconds a row on average. A single-stream row times every call by itself and
    stops at ``single_stream_samples``, or after ``single_stream_s`` seconds when those take longer.
    """

    min_blocks: PositiveInt = 10
    block_s: PositiveFloat = 0.1
    max_s: PositiveFloat = 8.0
    rel_precision: PositiveFloat = 0.01
    min_warmup_s: NonNegativeFloat = 0.2
    max_warmup_s: PositiveFloat = 5.0
    sync_share: PositiveFloat = 1e-3
    single_stream_samples: PositiveInt = 1000
    single_stream_s: PositiveFloat = 3.0


class RowSpec(Frozen):
    """One row of a profile: which model, where and how it runs, on how many images a call.

    ``wanted`` is what was asked for where the batch size is to be found by trying.
    """

    model: ModelSpec
    device: str
    precision: Precision
    runtime: str
    mode: Mode
    batch_size: PositiveInt
    wanted: Literal["auto"] | None = None

    def __str__(self) -> str:
        return f"{self.model.name} {self.runtime}"

    def changed(self, **changes: Any) -> RowSpec:
        """Return a copy with other facts."""
        return self.model_copy(update=changes)


class ProfileSpec(Frozen):
    """The axes of a profile; their product, one record each, is what is measured.

    The batch size ``auto`` is the largest that fits, halved from a start until it does. ``memory``
    and ``breakdown`` say whether to measure peak memory in fresh processes and where the time of
    an eager call goes. ``keep_freed`` is for the CPU, see `bench.machine.heap`. ``series`` is
    shared by sittings that repeat each other. With ``accuracy`` every session of a trained model
    classifies the whole test set. int8 is made with ``calibration_images`` of the training split,
    drawn by ``calibration_seed``, which repeats share: they are to time the same artefact.
    ``scenarios`` are asked for beside throughput and latency: requests arrive at ``server_rate`` a
    second (None: half of what can be served), and are to be answered in ``server_bound_s``.
    """

    models: tuple[ModelSpec, ...]
    device: str = "cpu"
    precisions: tuple[Precision, ...] = ("fp32",)
    runtimes: tuple[str, ...] = ("eager",)
    batch_sizes: tuple[PositiveInt | Literal["auto"], ...] = (1, 64)
    modes: tuple[Mode, ...] = ("infer",)
    seed: Seed = 0
    timing: TimingSpec = TimingSpec()
    memory: bool = True
    breakdown: bool = True
    keep_freed: bool = True
    accuracy: bool = True
    calibration_images: PositiveInt = 256
    calibration_seed: Seed = 0
    scenarios: tuple[Literal["end_to_end", "server"], ...] = ()
    server_rate: PositiveFloat | None = None
    server_bound_s: PositiveFloat = 0.1
    series: str | None = None

    @model_validator(mode="after")
    def _has_something_on_every_axis(self) -> ProfileSpec:
        for axis in ("models", "precisions", "runtimes", "batch_sizes", "modes"):
            if not getattr(self, axis):
                raise ValueError(f"{axis}: nothing to profile")
        return self

    def digest(self) -> str:
        """Return 8 hex digits that change when anything that is measured does.

        ``keep_freed`` came later: on a CPU it is another measurement, elsewhere the same. So did
        accuracy and calibration: what was profiled before is found and not timed again for them.
        """
        facts = self.model_dump(mode="json")
        facts["models"] = [model.identity() for model in self.models]
        if self.device != "cpu":
            del facts["keep_freed"]
        if self.accuracy:
            del facts["accuracy"]
        if not self.scenarios:
            del facts["scenarios"], facts["server_rate"], facts["server_bound_s"]
        if "int8" not in self.precisions:
            del facts["calibration_images"], facts["calibration_seed"]
        return _digest(facts)
