"""What becomes of the jobs of slurm and ray when the command that handed them over is ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bench.cli import run
from bench.execute.launch import node
from bench.execute.launch.launchers import Launcher
from bench.signals import Stopped

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "detach", "answer", "asked", "cancelled"),
    [
        (INT, False, True, True, ["living"]),
        (INT, False, False, True, []),
        (INT, False, None, True, []),
        (INT, True, True, False, []),
        (TERM, False, True, False, []),
    ],
)
def test_jobs_go_on_unless_whoever_interrupts_says_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    detach: bool,
    answer: bool | None,
    asked: bool,
    cancelled: list[str],
) -> None:
    """Asked once, at Ctrl-C in a terminal; Ctrl-C at the question leaves them running."""
    ended: list[str] = []
    launcher = Launcher(lambda *_: "", lambda name: name == "dead", ended.append, 1)
    for name in ("living", "dead"):
        (tmp_path / name).mkdir()
        (tmp_path / name / node.LAUNCHED).write_text(f'{{"job_id": "{name}"}}')

    @contextlib.contextmanager
    def conducting(*_: object) -> Iterator[Launcher]:
        yield launcher

    questions: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        questions.append(text)
        if answer is None:
            raise typer.Abort
        return answer

    monkeypatch.setattr("bench.execute.launch.conductor.conducting", conducting)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    with (
        pytest.raises(Stopped, match="1 jobs cancelled" if cancelled else "^detached; the jobs go"),
        run._launching("slurm", {}, tmp_path, 2, detach=detach, log=None),
    ):
        signal.raise_signal(number)
    assert len(questions) == asked
    assert ended == cancelled
