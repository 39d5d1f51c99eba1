"""An accelerator's memory is given back before another process, or the next row, needs it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.machine import device_memory
from bench.measure import prepare


@pytest.mark.parametrize(
    ("device", "is_released"), [("cuda:0", True), ("mps", True), ("cpu", False)]
)
def test_memory_is_asked_for_when_this_process_has_given_back_what_it_can(
    device: str, is_released: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    server = SimpleNamespace(ask=lambda job: log.append("asks") or "does not fit")
    sitting: Any = SimpleNamespace(server=server)
    row: Any = SimpleNamespace(device=device, precision="fp32")
    monkeypatch.setattr(
        device_memory, "release_memory", lambda device: log.append(f"frees {device}")
    )
    assert prepare._memory(sitting, row) == "does not fit"
    assert log == ([f"frees {device}"] if is_released else []) + ["asks"]
