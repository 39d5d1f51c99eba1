"""Where something was measured."""

from __future__ import annotations

from bench.spec.values import Frozen


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
        """What became of freed memory (`bench.machine.heap`); None on a GPU and in old records."""
        return self.flags.get("freed_memory")
