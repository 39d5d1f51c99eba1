"""Records: strict JSON, versioned, written whole, never overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import record
from bench.errors import UserError


def test_bytes_are_written_whole_with_the_users_umask(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        record.write_whole(tmp_path / "a" / "file", b"content")
    finally:
        os.umask(former)
    assert (tmp_path / "a" / "file").read_bytes() == b"content"
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_stub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*file: No space left on device"):
        record.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        record.write_whole(tmp_path / "file" / "record.json", b"")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not strict JSON"),
        ('{"kind": "run"', "not strict JSON"),
        ('{"kind": "run", "top1": NaN}', "NaN is not a number that JSON allows"),
        ("[]", "no kind of run or profile"),
        ('{"kind": "other"}', "no kind of run or profile"),
        ('{"kind": "run", "schema_version": 99}', "schema version 99; this program reads 1"),
        ('{"kind": "run", "schema_version": 1}', "id: Field required"),
        ("[" * 100_000, "not strict JSON"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        record.from_json(text)
    assert "\n" not in str(caught.value)


def test_strict_json_has_no_nan_and_ends_in_a_newline() -> None:
    facts = record.FileFacts(name="é", sha256="0")
    text = json.dumps(facts.model_dump())
    assert record.FileFacts.model_validate_json(text) == facts
    with pytest.raises(ValueError, match="finite"):
        record.EpochFacts(
            epoch=1,
            loss=float("nan"),
            top1=0.1,
            lr=0.1,
            num_images=1,
            epoch_wall_s=1.0,
            throughput=1.0,
        )
