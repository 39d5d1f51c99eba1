"""Downloads and archives leave whole, right files, or nothing."""

from __future__ import annotations

import os
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cifar_files import archive_of
from file_server import Server, serving

from bench.data.download import Unreachable, download, md5, md5_of_file, remove_orphans, unpack
from bench.errors import UserError

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/set.tar.gz": CONTENT}) as state:
        yield state


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_download_is_whole_and_reports_progress(server: Server, tmp_path: Path) -> None:
    """The file has the server's bytes; progress ends at its size; nothing else is left."""
    seen: list[tuple[str, int, int]] = []
    path = tmp_path / "new" / "folder" / "set.tar.gz"
    download(server.url + "/set.tar.gz", path, md5(CONTENT), lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("downloading set.tar.gz", 256000, 256000)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert left_in(path.parent) == ["set.tar.gz"]


def test_a_server_that_tells_no_length_is_fine(server: Server, tmp_path: Path) -> None:
    """Without a Content-Length the MD5 decides alone."""
    server.announce_length = False
    download(server.url + "/set.tar.gz", tmp_path / "set.tar.gz", md5(CONTENT))
    assert (tmp_path / "set.tar.gz").read_bytes() == CONTENT


def test_a_truncated_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    """Fewer bytes than announced: an error with both numbers, no file, no folder."""
    server.cut = 70_000
    with pytest.raises(UserError, match=r"70000 of 256000 bytes|after \d+ bytes"):
        download(server.url + "/set.tar.gz", tmp_path / "new" / "set.tar.gz", md5(CONTENT))
    assert left_in(tmp_path) == []


def test_a_truncated_download_of_unknown_length_leaves_nothing(
    server: Server, tmp_path: Path
) -> None:
    """Where no length was announced the MD5 tells."""
    server.cut, server.announce_length = 70_000, False
    with pytest.raises(UserError, match="nothing of it was kept"):
        download(server.url + "/set.tar.gz", tmp_path / "set.tar.gz", md5(CONTENT))
    assert left_in(tmp_path) == []


def test_a_wrong_md5_leaves_nothing(server: Server, tmp_path: Path) -> None:
    """The error states both sums."""
    with pytest.raises(UserError, match=f"MD5 {md5(CONTENT)}, not {'0' * 32}"):
        download(server.url + "/set.tar.gz", tmp_path / "set.tar.gz", "0" * 32)
    assert left_in(tmp_path) == []


def test_a_missing_file_is_unreachable(server: Server, tmp_path: Path) -> None:
    """404 is said, and no folder is left."""
    with pytest.raises(Unreachable, match=r"/none answers 404 Not Found"):
        download(server.url + "/none", tmp_path / "new" / "x", md5(b""))
    assert left_in(tmp_path) == []


def test_no_server_is_unreachable(tmp_path: Path) -> None:
    """A port that nobody listens at is no crash."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(Unreachable, match="cannot be reached"):
        download(url, tmp_path / "x", md5(b""))
    assert left_in(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    """Control-C in the middle of it removes what had come."""

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url + "/set.tar.gz", tmp_path / "x", md5(CONTENT), interrupt)
    assert left_in(tmp_path) == []


def test_a_failed_download_spares_the_file_that_was_there(server: Server, tmp_path: Path) -> None:
    """What was there before is replaced by a whole file only."""
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(UserError):
        download(server.url + "/set.tar.gz", tmp_path / "x", "0" * 32)
    assert (tmp_path / "x").read_bytes() == b"before"


def test_remains_of_killed_downloads_are_removed(server: Server, tmp_path: Path) -> None:
    """Old temporary files go, one that another process may be writing stays."""
    old, young = tmp_path / ".x.abc.part", tmp_path / ".x.def.part"
    for part in (old, young):
        part.write_bytes(b"half")
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    download(server.url + "/set.tar.gz", tmp_path / "x", md5(CONTENT))
    assert left_in(tmp_path) == [".x.def.part", "x"]


def test_removing_remains_of_an_empty_folder_does_nothing(tmp_path: Path) -> None:
    """No remains, no error."""
    remove_orphans(tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(server: Server, tmp_path: Path) -> None:
    """The path is named."""
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=str(tmp_path)):
        download(server.url + "/set.tar.gz", tmp_path / "x", md5(CONTENT))


def test_a_file_in_the_way_of_the_folder_is_said(server: Server, tmp_path: Path) -> None:
    """A path through a file is an error that names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot make the folder"):
        download(server.url + "/set.tar.gz", tmp_path / "file" / "x", md5(CONTENT))


def test_a_full_disk_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space left: an error that names the file, and nothing is left of it."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*x: No space left on device"):
        download(server.url + "/set.tar.gz", tmp_path / "x", md5(CONTENT))
    assert left_in(tmp_path) == []


def test_the_md5_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    """An empty file has the well-known sum."""
    (tmp_path / "empty").write_bytes(b"")
    assert md5_of_file(tmp_path / "empty") == "d41d8cd98f00b204e9800998ecf8427e"
    (tmp_path / "x").write_bytes(CONTENT)
    assert md5_of_file(tmp_path / "x") == md5(CONTENT)


def test_wanted_members_are_unpacked_and_no_others(tmp_path: Path) -> None:
    """Only what was asked for is written."""
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(archive_of([("set/one", b"1"), ("set/two", b"2"), ("set/readme", b"3")]))
    unpack(archive, tmp_path / "out", ["set/one", "set/two"])
    assert left_in(tmp_path / "out") == ["set", "set/one", "set/two"]
    assert (tmp_path / "out/set/two").read_bytes() == b"2"


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    return info


@pytest.mark.parametrize(
    "member",
    [
        "../escaped",
        "set/../../escaped",
        "/tmp/escaped",
        "C:/escaped",
        "..\\escaped",
        _link("set/link", tarfile.SYMTYPE, "/etc"),
        _link("set/link", tarfile.SYMTYPE, "one"),
        _link("set/hard", tarfile.LNKTYPE, "/etc/passwd"),
        _device("set/device"),
    ],
    ids=lambda member: getattr(member, "name", member),
)
def test_an_unsafe_archive_is_refused_whole(tmp_path: Path, member: tarfile.TarInfo | str) -> None:
    """A member that could end up elsewhere is named, and nothing is written, before it or after."""
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(archive_of([("set/one", b"1"), (member, b"x"), ("set/two", b"2")]))
    with pytest.raises(UserError, match="not safe to unpack"):
        unpack(archive, tmp_path / "out", ["set/one", "set/two"])
    assert left_in(tmp_path) == ["a.tar.gz"]


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    """Nothing is written when something is missing."""
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(archive_of([("set/one", b"1")]))
    with pytest.raises(UserError, match="holds no set/two"):
        unpack(archive, tmp_path / "out", ["set/one", "set/two"])
    assert left_in(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_is_said(tmp_path: Path, share: float) -> None:
    """Wherever it is cut, the error names it."""
    whole = archive_of([("set/one", os.urandom(5000))])
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"a\.tar\.gz cannot be unpacked"):
        unpack(archive, tmp_path / "out", ["set/one"])
