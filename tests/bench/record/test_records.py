"""Records: strict JSON, versioned, written whole, never overwritten."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import record_factory as make
import small_disk

from bench.errors import UserError
from bench.record import files, read_write, run


def test_bytes_are_written_whole_with_the_users_umask(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "a" / "file", b"content")
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
        files.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        files.write_whole(tmp_path / "file" / "record.json", b"")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not strict JSON"),
        ('{"kind": "run"', "not strict JSON"),
        ('{"kind": "run", "top1": NaN}', "NaN is not a number that JSON allows"),
        ("[]", "no kind of run or profile"),
        ('{"kind": "other"}', "no kind of run or profile"),
        ('{"kind": "run", "schema_version": 99}', "schema version 99; this program reads 1 and 2"),
        ('{"kind": "run", "schema_version": 1}', "id: is missing"),
        ("[" * 100_000, "not strict JSON"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read_write.from_json(text)
    assert "\n" not in str(caught.value)


def test_strict_json_has_no_nan_and_ends_in_a_newline() -> None:
    facts = run.FileFacts(name="é", sha256="0")
    text = json.dumps(facts.model_dump())
    assert run.FileFacts.model_validate_json(text) == facts
    with pytest.raises(ValueError, match="finite"):
        run.EpochFacts(
            epoch=1,
            loss=float("nan"),
            top1=0.1,
            lr=0.1,
            num_images=1,
            epoch_wall_s=1.0,
            throughput=1.0,
        )


FORK = multiprocessing.get_context("fork")
NUM_WRITERS, NUM_RECORDS = 8, 25


def _write_all(folder: Path, writer: int, start: Any, told: Any) -> None:
    """Write records under names of one's own and under names that all want; tell which."""
    example = make.run_record(seed=writer)
    start.wait()
    won = []
    for number in range(NUM_RECORDS):
        read_write.write_record(folder / f"own-{writer}-{number}.json", example)
        with contextlib.suppress(UserError):
            read_write.write_record(folder / f"common-{number}.json", example)
            won.append(number)
    told.put((writer, won))


def test_eight_processes_writing_into_one_folder_lose_and_tear_nothing(tmp_path: Path) -> None:
    """Of those that want one name exactly one gets it, and the file is that one's."""
    start, told = FORK.Event(), FORK.Queue()
    writers = [
        FORK.Process(target=_write_all, args=(tmp_path, writer, start, told))
        for writer in range(NUM_WRITERS)
    ]
    for process in writers:
        process.start()
    start.set()
    winners = dict(told.get(timeout=60) for _ in writers)
    for process in writers:
        process.join()
    for number in range(NUM_RECORDS):
        (winner,) = [writer for writer, won in winners.items() if number in won]
        kept = read_write.read_record(tmp_path / f"common-{number}.json")
        assert kept == make.run_record(seed=winner)
        for writer in range(NUM_WRITERS):
            own = read_write.read_record(tmp_path / f"own-{writer}-{number}.json")
            assert own == make.run_record(seed=writer)
    assert len(list(tmp_path.iterdir())) == NUM_RECORDS * (NUM_WRITERS + 1)


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    read_write.write_record(path, make.run_record(seed=0))
    with pytest.raises(UserError, match=r"run\.json is there already; records are never over"):
        read_write.write_record(path, make.run_record(seed=1))
    assert read_write.read_record(path) == make.run_record(seed=0)
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_without_hard_links_a_record_is_not_overwritten_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    test_a_record_is_never_overwritten(tmp_path)


@pytest.mark.parametrize(
    "escape", [r"\ud800", r"\udfff", r"x\uD834", r"\ud800\ud800", r"\udc00\ud800"]
)
def test_half_a_character_is_refused(escape: str) -> None:
    """It can neither be written into a report nor be shown."""
    text = read_write.to_json(make.run_record()).replace('"Shapes"', f'"{escape}"')
    with pytest.raises(ValueError, match="not strict JSON"):
        read_write.from_json(text)


def test_a_character_written_as_two_halves_is_whole() -> None:
    text = read_write.to_json(make.run_record()).replace('"Shapes"', r'"\ud834\udd1e \\ud800"')
    record = read_write.from_json(text)
    assert isinstance(record, run.RunRecord)
    assert record.dataset.label == "\U0001d11e \\ud800"


@pytest.mark.parametrize("key", ['"id"', '"params"', '"seed"', '"label"', '"top1"'])
def test_a_key_that_stands_twice_is_refused(key: str) -> None:
    """Of two values the last would be taken without a word."""
    text = read_write.to_json(make.run_record())
    assert key in text
    twice = text.replace(key, f"{key}: 1, {key}", 1)
    with pytest.raises(ValueError, match="stands twice in one object"):
        read_write.from_json(twice)


@pytest.mark.parametrize("nested", [False, True])
def test_a_record_of_millions_of_keys_is_refused_at_once(nested: bool) -> None:
    keys = ", ".join(f'"k{i}": 0' for i in range(300_000))
    inner = f'"flags": {{{keys}}}' if nested else keys
    with pytest.raises(ValueError, match="more than 100,000 keys"):
        read_write.from_json(f'{{"kind": "run", "schema_version": 1, {inner}}}')


def test_a_byte_order_mark_is_no_part_of_a_record(tmp_path: Path) -> None:
    record = make.run_record()
    (tmp_path / "run.json").write_text(read_write.to_json(record), encoding="utf-8-sig")
    assert read_write.read_record(tmp_path / "run.json") == record


def test_of_a_set_of_files_all_are_written_or_none(tmp_path: Path) -> None:
    """The second is too large for what is left of the disk: the first stays as it was."""
    with small_disk.mounted(tmp_path / "disk", "size=256k") as disk:
        (disk / "a").write_bytes(b"old")
        with pytest.raises(UserError, match=r"cannot write .*b: No space left on device"):
            files.write_set(disk, {"a": b"new", "b": bytes(2**20)})
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == {"a": b"old"}
        files.write_set(disk, {"a": b"new", "b": b"new"})
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == dict.fromkeys(
            "ab", b"new"
        )
