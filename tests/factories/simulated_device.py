"""A simulated device: work is given to it at once and is done later, in simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.measure.clock import Clock


@dataclass
class Device:
    """Hold the host's time and the time until which the device is busy, in seconds."""

    host_s: float = 0.0
    busy_until_s: float = 0.0
    launch_s: float = 1e-5
    read_s: float = 1e-7
    num_calls: int = 0
    noise: float = 0.0
    drift_per_s: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def now(self) -> float:
        self.host_s += self.read_s
        return self.host_s

    def synchronize(self) -> None:
        self.host_s = max(self.host_s, self.busy_until_s)

    def work(self, seconds: float) -> Callable[[], None]:
        """Return work that takes the device ``seconds``, and the host only its launch."""

        def call() -> None:
            self.num_calls += 1
            self.host_s += self.launch_s
            factor = self.rng.lognormvariate(0.0, self.noise) + self.drift_per_s * self.host_s
            self.busy_until_s = max(self.host_s, self.busy_until_s) + seconds * factor

        return call

    def clock(self) -> Clock:
        return Clock(now=self.now, synchronize=self.synchronize)

    def clock_that_does_not_wait(self) -> Clock:
        return Clock(now=self.now)
