"""ONNX Runtime on a GPU, played by stand-ins: whose stream it works on, and whether it does."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.compute.exchange import exported
from bench.compute.session import Unsupported
from tests.conftest import build_tiny


class Options:
    """Takes whatever is set."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value

    add_run_config_entry = add_session_config_entry


class Stream:
    """Notes whom it waits for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.cuda_stream = name, log, 0x7F00

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class Binding:
    def bind_input(self, *where: Any) -> None: ...

    def bind_output(self, *where: Any) -> None: ...


class Onnx:
    """A session on the provider that it was given, or on the CPU where that does not load."""

    loads = True

    def __init__(self, content: bytes, options: Options, providers: list[Any]) -> None:
        self.given, self.log = providers[0], list[str]()

    def get_providers(self) -> list[str]:
        return [*([self.given[0]] if self.loads else []), "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", shape=[2, 3, 8, 8])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y", shape=[2, 10])]

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, bound: Binding, options: Options) -> None:
        self.log.append(f"runs with {options.entries}")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Onnx]:
    """Let a GPU and ONNX Runtime be there; return the sessions that are made."""
    made: list[Onnx] = []

    def make(*arguments: Any, **named: Any) -> Onnx:
        made.append(Onnx(*arguments, **named))
        return made[-1]

    fake = SimpleNamespace(
        SessionOptions=Options,
        RunOptions=Options,
        InferenceSession=make,
        get_available_providers=lambda: ["CUDAExecutionProvider"],
    )
    program = SimpleNamespace(model_proto=SimpleNamespace(SerializeToString=bytes))
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    monkeypatch.setattr(exported, "ready", lambda model, device, precision: model)
    monkeypatch.setattr(exported, "adapter", lambda device, precision: lambda images: images)
    real_empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, device, **how: real_empty(*s, **how))
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("onnx", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("torch", log))
    shared = property(lambda _: log, lambda _, __: None)
    monkeypatch.setattr(Onnx, "log", shared, raising=False)
    return made


def session() -> Any:
    model = build_tiny(stem="cifar", num_classes=10)
    return exported.onnxruntime(model, torch.zeros(2, 3, 8, 8), "cuda:0", "fp32")


def test_torchs_events_enclose_what_onnxruntime_computes(sessions: list[Onnx]) -> None:
    """It works on a stream that torch's waits for on the device, and the host does not."""
    found = session().call(torch.zeros(2, 3, 8, 8))
    assert found.shape == (2, 10)
    assert sessions[0].given[1]["user_compute_stream"] == str(0x7F00)
    assert sessions[0].log == [
        "onnx waits for torch",
        "runs with {'disable_synchronize_execution_providers': '1'}",
        "torch waits for onnx",
    ]


def test_going_on_on_the_cpu_is_no_row_of_the_gpu(
    sessions: list[Onnx], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Onnx, "loads", False)
    with pytest.raises(Unsupported, match="could not load its CUDA libraries for cuda:0"):
        session()
