"""A profile: which models are timed, how, and for how long."""

from __future__ import annotations

from typing import Literal

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


class ProfileSpec(Frozen):
    """The axes of a profile; their product, one record each, is what is measured.

    The batch size ``auto`` is the largest that fits, halved from a start until it does. ``memory``
    and ``breakdown`` say whether to measure peak memory in fresh processes and where the time of
    an eager call goes. ``keep_freed`` is for the CPU, see `bench.machine.heap`. ``series`` is
    shared by sittings that repeat each other.
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
    series: str | None = None

    @model_validator(mode="after")
    def _has_something_on_every_axis(self) -> ProfileSpec:
        for axis in ("models", "precisions", "runtimes", "batch_sizes", "modes"):
            if not getattr(self, axis):
                raise ValueError(f"{axis}: nothing to profile")
        return self

    def digest(self) -> str:
        """Return 8 hex digits that change when anything that is measured does.

        ``keep_freed`` came later: on a CPU it is another measurement, elsewhere the same.
        """
        facts = self.model_dump(mode="json")
        facts["models"] = [model.identity() for model in self.models]
        if self.device != "cpu":
            del facts["keep_freed"]
        return _digest(facts)
