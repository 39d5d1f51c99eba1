"""Profiles of one deployment, as one row of costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from bench.record.deployment import DeploymentAccuracy
from bench.record.environment import Environment
from bench.record.profile import ProfileRecord
from bench.report.read.load import LoadedProfile
from bench.report.read.timings import Timing, timing_of
from bench.spec.run import ModelSpec

TRAIN_FACTOR = 3


@dataclass(frozen=True)
class CostRow:
    """One model on one device, precision, runtime, mode, scenario and batch size.

    ``price_per_hour`` is what an hour of the machine costs, in any currency.
    """

    key: str
    profiles: tuple[LoadedProfile, ...]
    price_per_hour: float | None = None

    @property
    def first(self) -> ProfileRecord:
        return self.profiles[0].record

    @property
    def model(self) -> ModelSpec:
        return self.first.model

    @property
    def environment(self) -> Environment:
        return self.first.environment

    @cached_property
    def fed(self) -> CostRow:
        """Return the row of the profiles that other work did not starve; as it is without any."""
        good = tuple(p for p in self.profiles if not p.starved)
        return replace(self, profiles=good or self.profiles)

    @property
    def accuracy(self) -> DeploymentAccuracy | None:
        """Return what its own session gets right; None where that was not measured."""
        return next((p.record.accuracy for p in self.profiles if p.record.accuracy), None)

    @property
    def peak_memory_bytes(self) -> int | None:
        """Return the largest peak over the profiles; None where it was not read."""
        peaks = [p.record.memory.peak_bytes for p in self.profiles if p.record.memory]
        return max(peaks, default=None)

    @property
    def joules_per_image(self) -> float | None:
        """Return the energy over all windows by all their images; None where it was not read."""
        read = [p.record.energy for p in self.profiles if p.record.energy]
        pairs = [(e.joules, e.num_images) for e in read if e.joules and e.num_images]
        images = sum(count for _, count in pairs)
        return sum(joules for joules, _ in pairs) / images if images else None

    @property
    def achieved_flops(self) -> float | None:
        """Return the FLOP/s of convolutions and linear layers, 2 a multiply-accumulate."""
        if self.timing is None:
            return None
        factor = TRAIN_FACTOR if self.first.mode == "train" else 1
        return factor * self.first.cost.flops * self.timing.throughput

    @property
    def peak_flops(self) -> float | None:
        """Return the most arithmetic measured in the row's sittings, in its precision."""
        machines = [p.record.machine for p in self.profiles if p.record.machine]
        peaks = [m.peak_flops(self.first.precision) or 0.0 for m in machines]
        return max(peaks, default=0.0) or None

    @property
    def utilisation(self) -> float | None:
        """Return the share of the machine's peak of arithmetic; None where one is unknown."""
        achieved, peak = self.achieved_flops, self.peak_flops
        return achieved / peak if achieved and peak else None

    @property
    def price_per_million(self) -> float | None:
        """Return what a million images cost at the machine's price an hour."""
        if self.timing is None or self.price_per_hour is None:
            return None
        return self.price_per_hour / 3600 / self.timing.throughput * 1e6

    @property
    def created_at(self) -> str:
        """Return when the last of its profiles was made."""
        return max(profile.record.created_at for profile in self.profiles)

    @cached_property
    def timing(self) -> Timing | None:
        return timing_of([profile.record for profile in self.profiles])
