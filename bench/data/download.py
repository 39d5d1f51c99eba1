"""Fetch an archive and unpack it so that nothing half-written or unwanted is ever left.

Neither torchvision's download nor pooch's serves here: they wait for ever for a body that drips or
never ends, and leave it to the caller to tell a server's faults from the disk's in one line.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import queue
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from bench.errors import UserError, one_line
from bench.record.files import write_whole

Progress = Callable[[str, int, int], None]

CHUNK = 1 << 16
TIMEOUT_S = 30
WATCH_S = 60  # a server that sends less than SLOWEST for so long is given up
SLOWEST = 1024  # bytes a second
LARGEST = 1 << 30  # bytes that are taken of an answer: several times the largest set
ORPHAN_AGE_S = 3600  # a download that is still going on has written within the hour
PART = ".part"


class _Response(Protocol):
    headers: http.client.HTTPMessage

    def read1(self, size: int = ..., /) -> bytes: ...


class Unreachable(Exception):
    """Nothing could be fetched: no network, no server, or no such file there."""


def md5(content: bytes) -> str:
    """Return the MD5 of some bytes: the sums that data sets publish."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file, read piece by piece."""
    with path.open("rb") as file:
        return _md5_of_stream(file)


def _md5_of_stream(file: IO[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def download(url: str, path: Path, expected_md5: str, progress: Progress | None = None) -> None:
    """Fetch ``url`` to ``path``, which appears only when it is whole and its MD5 is right.

    Raises `Unreachable` when there is nothing to fetch from, and UserError when what came is
    truncated or has another MD5, or the disk cannot be written to.
    """
    with _part_file(path) as part:
        _fetch(url, part, _reporting(progress, f"downloading {path.name}"))
        part.flush()
        os.fsync(part.fileno())
        part.seek(0)
        found = _md5_of_stream(part)
        if found != expected_md5:
            raise UserError(
                f"what {url} sent has the MD5 {found}, not {expected_md5}; nothing of it was kept"
            )


@contextmanager
def _part_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file that becomes ``path`` at the end, or vanishes on an error."""
    made = _make_folder(path.parent)
    remove_orphans(path.parent)
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
        part = Path(name)
        with os.fdopen(handle, "w+b") as file:
            yield file
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
        if not path.exists():
            _remove_empty(made)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and return those that were missing, the innermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # somebody else has put something there


def remove_orphans(folder: Path) -> None:
    """Remove what downloads that were killed have left behind in a folder."""
    for part in folder.glob(f".*{PART}"):
        try:
            if time.time() - part.stat().st_mtime > ORPHAN_AGE_S:
                part.unlink()
        except OSError:
            continue  # another process was faster


def _reporting(progress: Progress | None, what: str) -> Callable[[int, int], None]:
    return partial(progress, what) if progress else lambda done, total: None


def _fetch(url: str, part: IO[bytes], report: Callable[[int, int], None]) -> None:
    with _answer(url) as response:
        total = _announced(response, url)
        received = 0
        for chunk in _chunks(response, url):
            part.write(chunk)
            received += len(chunk)
            report(received, max(total, received))
    if total and received != total:
        raise UserError(
            f"the download of {url} was cut off at {received} of {total} bytes; try again"
        )


def _answer(url: str) -> Any:
    """Return the server's answer; Unreachable when none comes in time or it is none of HTTP.

    The time-out of a socket is for each piece: headers that drip would be waited for without end.
    """
    found: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            found.put(_asked(url))
        except Exception as problem:  # Unreachable, or a fault of ours, raised where it is waited
            found.put(problem)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = found.get(timeout=WATCH_S)
    except queue.Empty:
        raise Unreachable(f"{url} has not answered within {WATCH_S} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _asked(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "senet-bench"})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise Unreachable(f"{url} answers {error.code} {one_line(error.reason)}") from None
    except urllib.error.URLError as error:
        raise Unreachable(f"{url} cannot be reached: {one_line(error.reason)}") from None
    # Not an error of the disk: a closed connection, a status line or a header that is none.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{url} cannot be reached: {one_line(error)}") from None


def _announced(response: _Response, url: str) -> int:
    """Return how many bytes are to come, 0 where it is not told."""
    told = response.headers.get("Content-Length") or "0"
    if not (told.isascii() and told.strip().isdigit() and len(told) < 20):
        raise UserError(f"{url} announces a length that is none: {told[:40]!r}; try again")
    total = int(told)
    if total > LARGEST:
        raise UserError(f"{url} announces {total} bytes; no data set here is so large")
    return total


def _chunks(response: _Response, url: str) -> Iterator[bytes]:
    """Yield what comes, as it comes; UserError when it breaks off, drips or does not end."""
    received, since, mark = 0, time.monotonic(), 0
    while chunk := _read(response, url, received):
        yield chunk
        received += len(chunk)
        now = time.monotonic()
        if received > LARGEST:
            raise UserError(f"the download of {url} does not end: {received} bytes came")
        if now - since > WATCH_S:
            if received - mark < SLOWEST * WATCH_S:
                raise UserError(
                    f"the download of {url} is too slow: {received - mark} bytes in"
                    f" {now - since:.0f} s; try again"
                )
            since, mark = now, received


def _read(response: _Response, url: str, received: int) -> bytes:
    try:
        return response.read1(CHUNK)  # `read` would wait until so much has come
    except (OSError, http.client.HTTPException, ValueError) as error:  # not an error of the disk
        raise UserError(
            f"the download of {url} broke off after {received} bytes: {one_line(error)}; try again"
        ) from None


def unpack(archive: Path, folder: Path, wanted: Collection[str]) -> None:
    """Write the ``wanted`` members of a tar archive below ``folder``, each of them whole.

    Names are relative, as ``folder/file``. UserError refuses an archive that is damaged, lacks one
    of them, or holds anything that could end up elsewhere: an absolute path, a path with ``..``, a
    link or a device.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _refuse_unsafe(member, archive)
            if missing := sorted(set(wanted) - set(tar.getnames())):
                raise UserError(f"{archive} holds no {missing[0]}")
        with tarfile.open(archive) as tar:  # once more from the front: to seek back is slow
            for member in tar:
                if member.name in wanted and (file := tar.extractfile(member)):
                    write_whole(folder / member.name, file.read())
    except UserError:
        raise
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from None


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name)
    drive = ":" in member.name or "\\" in member.name
    if path.is_absolute() or ".." in path.parts or drive or not (member.isreg() or member.isdir()):
        raise UserError(f"{archive} is not safe to unpack: it holds {member.name!r}")
