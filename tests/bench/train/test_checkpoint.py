"""Checkpoints: whole or not at all, damage noticed, no code run."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.train import checkpoint


def state(epoch: int, step: int = 0) -> dict[str, Any]:
    return {"epoch": epoch, "step": step, "weights": torch.arange(1000.0) + epoch}


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(3, 17))
    assert path.name == "checkpoint-000003-00000017.ckpt"
    found = checkpoint.load(path, "cpu")
    assert (found["epoch"], found["step"]) == (3, 17)
    assert torch.equal(found["weights"], torch.arange(1000.0) + 3)


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for epoch, step in ((0, 5), (1, 0), (1, 9), (2, 0)):
        checkpoint.save(tmp_path, state(epoch, step))
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["checkpoint-000002-00000000.ckpt", "checkpoint-000001-00000009.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_by_name_and_the_one_before_used(
    tmp_path: Path, share: float
) -> None:
    checkpoint.save(tmp_path, state(1))
    newest = checkpoint.save(tmp_path, state(2))
    data = newest.read_bytes()
    newest.write_bytes(data[: int(share * len(data))])
    found, problems = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert found["epoch"] == 1
    assert len(problems) == 1
    assert newest.name in problems[0]


@pytest.mark.parametrize("position", [5, 60, 100, 2000, -1])
def test_one_flipped_bit_is_refused_by_name_and_the_one_before_used(
    tmp_path: Path, position: int
) -> None:
    checkpoint.save(tmp_path, state(1))
    path = checkpoint.save(tmp_path, state(2))
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(checkpoint.Damaged, match=path.name):
        checkpoint.load(path, "cpu")
    found, problems = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert (found["epoch"], len(problems)) == (1, 1)


def write_with_right_hash(folder: Path, body: bytes) -> Path:
    digest = hashlib.sha256(body).hexdigest().encode()
    path = folder / "checkpoint-000001-00000000.ckpt"
    path.write_bytes(checkpoint.MAGIC + digest + b"\n" + body)
    return path


def saved_by_torch(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body", [b"", b"PK\x03\x04", b"\x80\x02.", b"garbage", saved_by_torch([1]), saved_by_torch(1)]
)
def test_a_right_hash_of_anything_else_is_refused_by_name(tmp_path: Path, body: bytes) -> None:
    path = write_with_right_hash(tmp_path, body)
    with pytest.raises(checkpoint.Damaged, match=path.name):
        checkpoint.load(path, "cpu")


def test_a_folder_or_pipe_named_as_a_checkpoint_is_none(tmp_path: Path) -> None:
    """To read the pipe would be to wait, to drop the folder would fail."""
    (tmp_path / "checkpoint-000007-00000000.ckpt").mkdir()
    os.mkfifo(tmp_path / "checkpoint-000008-00000000.ckpt")
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, state(epoch))
    found, problems = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert (found["epoch"], problems) == (3, [])


def test_a_pickle_with_a_right_hash_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    evil = saved_by_torch({"epoch": 1, "step": 0, "evil": Evil()})
    path = write_with_right_hash(tmp_path, evil)
    with pytest.raises(checkpoint.Damaged, match="holds more than plain tensors"):
        checkpoint.load(path, "cpu")
    assert not (tmp_path / "touched").exists()


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path, "cpu") == (None, [])
    assert checkpoint.load_newest(tmp_path / "none", "cpu") == (None, [])


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "noise": b"x" * 99}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_what_was_just_written_outlives_damaged_files_that_claim_to_be_further(
    tmp_path: Path, how: str
) -> None:
    """Both are damaged, the training begins anew: each resume goes on from what was saved last."""
    for epoch in (8, 9):
        damage(checkpoint.save(tmp_path, state(epoch)), how)
    found, problems = checkpoint.load_newest(tmp_path, "cpu")
    assert (found, len(problems)) == (None, 2)
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, state(epoch))
        found, problems = checkpoint.load_newest(tmp_path, "cpu")
        assert found is not None
        assert (found["epoch"], problems) == (epoch, [])
    assert len(list(tmp_path.glob("*.damaged"))) == 2


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_what_was_just_written_is_kept_while_damage_is_not_known(tmp_path: Path, how: str) -> None:
    """A file is damaged after it was read, or was put there by somebody."""
    damage(checkpoint.save(tmp_path, state(9)), how)
    for epoch in (1, 2, 3):
        written = checkpoint.save(tmp_path, state(epoch))
        assert written.exists()
    found, _ = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert found["epoch"] == 3


def test_what_is_inside_decides_which_is_the_furthest(tmp_path: Path) -> None:
    """One was given the name of another."""
    path = checkpoint.save(tmp_path, state(3))
    path.replace(tmp_path / "checkpoint-000001-00000000.ckpt")
    other = checkpoint.save(tmp_path / "other", state(2))
    other.replace(tmp_path / "checkpoint-000009-00000000.ckpt")
    found, _ = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert found["epoch"] == 3


@pytest.mark.parametrize("epoch", [None, "1", -1, 1.0, True, [1]])
def test_a_state_that_does_not_say_how_far_it_is_is_damaged(tmp_path: Path, epoch: Any) -> None:
    path = write_with_right_hash(tmp_path, saved_by_torch({"epoch": epoch, "step": 0}))
    with pytest.raises(checkpoint.Damaged, match="holds no state of a training"):
        checkpoint.load(path, "cpu")


def test_a_checkpoint_that_would_be_waited_for_is_passed_over(tmp_path: Path) -> None:
    """A file of the system that never ends is as damaged as any; the one before is used."""
    if not os.path.exists("/proc/kmsg"):
        pytest.skip("only Linux has files that are waited for")
    checkpoint.save(tmp_path, state(1))
    (tmp_path / "checkpoint-000002-00000000.ckpt").symlink_to("/proc/kmsg")
    found, problems = checkpoint.load_newest(tmp_path, "cpu")
    assert found is not None
    assert found["epoch"] == 1
    assert "is no checkpoint: empty" in problems[0]


def test_an_archive_that_unpacks_to_more_than_it_is_is_damaged(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(1))
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(path.read_bytes().partition(b"\n")[2])) as whole,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in whole.namelist():
            bomb.writestr(member, whole.read(member) + bytes(1 << 24))
    digest = hashlib.sha256(packed.getvalue()).hexdigest().encode()
    path.write_bytes(checkpoint.MAGIC + digest + b"\n" + packed.getvalue())
    with pytest.raises(checkpoint.Damaged, match="ModelError"):
        checkpoint.load(path, "cpu")
