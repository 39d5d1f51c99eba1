"""A folder that travels: whole and unharmed, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.execute.launch import carry
from bench.execute.launch.journal import EVENTS
from bench.execute.launch.node import JOB


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_made_is_here_as_it_was_there(tmp_path: Path) -> None:
    """Files of the job's own side stay; a checkpoint that a newer one has replaced goes."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    made = {"run.json": b"{}", "weights.safetensors": b"new", "step-2.ckpt": b"2"}
    for name, content in (made | {EVENTS: b"all", ".half.tmp": b"x", JOB: b"there"}).items():
        (there / name).write_bytes(content)
    own = {EVENTS: b"some", JOB: b"here", "failure-1.json": b"f"}
    for name, content in (own | {"step-1.ckpt": b"1", "weights.safetensors": b"old"}).items():
        (here / name).write_bytes(content)
    carry.take_home(carry.pack(there), here)
    assert files(here) == made | own


def test_a_file_that_was_changed_on_the_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    for name in ("a", "run.json"):
        (there / name).write_bytes(name.encode())
    packed = carry.pack(there)
    packed["run.json"] = packed["run.json"][0], b"ruin.json"
    with pytest.raises(carry.Damaged, match=r"run\.json did not come whole"):
        carry.take_home(packed, here)
    assert not here.exists()


def test_the_record_is_put_in_place_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed on the way leaves a run that is not finished."""
    packed = {name: carry._packed(Path(__file__)) for name in ("run.json", "weights.safetensors")}
    order: list[str] = []
    monkeypatch.setattr(carry, "write_set", lambda folder, content: order.extend(content))
    carry.unpack(packed, tmp_path)
    assert order == ["weights.safetensors", "run.json"]
