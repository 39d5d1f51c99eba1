"""Whatever a server answers: the file, or one line that blames the server and leaves nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.data.download import Unreachable, download, md5
from bench.errors import UserError

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(*pieces: bytes, pause_s: float = 0.0, reset: bool = False) -> Iterator[str]:
    """Answer every request with the bytes, then close."""
    listening = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(4096)
                    for piece in pieces:
                        connection.sendall(piece)
                        if done.wait(pause_s):
                            break
                    if reset:
                        linger = b"\1\0\0\0\0\0\0\0"
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/set.tar.gz"
    finally:
        done.set()
        listening.close()


def refused(url: str, folder: Path) -> str:
    """Return what is said; nothing may be left, and the disk is not blamed."""
    with pytest.raises((UserError, Unreachable)) as caught:
        download(url, folder / "new" / "set.tar.gz", md5(b"12345"))
    assert list(folder.iterdir()) == []
    said = str(caught.value)
    assert "\n" not in said
    assert "cannot write" not in said
    assert len(said) < 400
    return said


MALFORMED = {
    "nothing": b"",
    "no status line": b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status beyond all": b"HTTP/1.1 99999 OK\r\n\r\n",
    "a binary answer": bytes(range(256)),
    "a status line without end": b"HTTP/1.1 200 " + b"x" * 100_000,
    "a thousand headers": OK + b"A: b\r\n" * 1000 + b"\r\n12345",
    "a header without end": OK + b"A: " + b"x" * 100_000,
    "a length in words": OK + b"Content-Length: five\r\n\r\n12345",
    "a negative length": OK + b"Content-Length: -5\r\n\r\n12345x",
    "a fractional length": OK + b"Content-Length: 5.5\r\n\r\n12345x",
    "an absurd length": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n12345",
    "a length of terabytes": OK + b"Content-Length: 99999999999999\r\n\r\n12345",
    "too short": OK + b"Content-Length: 9\r\n\r\n12345",
    "chunks of no length": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n12345",
    "a chunk cut short": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n12345",
    "a negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n12345",
    "sent on to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[::bad/\r\n\r\n",
    "sent on to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "sent round in circles": b"HTTP/1.1 302 Found\r\nLocation: /set.tar.gz\r\n\r\n",
    "a reason of two lines": b"HTTP/1.1 500 a\rb\r\n\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_malformed_answers_are_one_line(kind: str, reset: bool, tmp_path: Path) -> None:
    """No traceback, no file, and the connection is not called a disk."""
    with answering(MALFORMED[kind], reset=reset) as url:
        refused(url, tmp_path)


@pytest.mark.parametrize("sent", [b"", OK, OK + b"Content-Length: 5\r\n", OK + b"\r\n", OK[:9]])
def test_a_closed_connection_is_the_servers(sent: bytes, tmp_path: Path) -> None:
    """At any point of the answer."""
    with answering(sent, reset=True) as url:
        said = refused(url, tmp_path)
    assert url in said


@pytest.mark.parametrize("piece", [b"x", b"xy", b"x" * 10, b"x" * 100, b"\0"])
@pytest.mark.parametrize("head", [b"Content-Length: 100000\r\n\r\n", b"\r\n"])
def test_a_body_that_drips_is_given_up(
    piece: bytes, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than the slowest speed for the time that is watched."""
    monkeypatch.setattr("bench.data.download.WATCH_S", 0.3)
    monkeypatch.setattr("bench.data.download.SLOWEST", 100_000)
    start = time.monotonic()
    with answering(OK + head, *[piece] * 1000, pause_s=0.02) as url:
        assert "is too slow" in refused(url, tmp_path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("size", [1, 100, 1000, 65536, 200_000])
def test_a_body_that_never_ends_is_given_up(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than any set has."""
    monkeypatch.setattr("bench.data.download.LARGEST", 500)
    with answering(OK + b"\r\n", *[b"x" * size] * 2000) as url:
        assert "does not end" in refused(url, tmp_path)


def test_a_right_answer_is_taken(tmp_path: Path) -> None:
    """The control: the same server, an answer as it should be."""
    with answering(OK + b"Content-Length: 5\r\n\r\n", b"12", b"345") as url:
        download(url, tmp_path / "x", md5(b"12345"))
    assert (tmp_path / "x").read_bytes() == b"12345"


def test_headers_that_drip_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece comes in time, and the answer never does."""
    monkeypatch.setattr("bench.data.download.WATCH_S", 0.5)
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(50):
                connection.sendall(b"x")
                time.sleep(0.1)

    threading.Thread(target=drip, daemon=True).start()
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="has not answered within"):
        download(f"http://127.0.0.1:{server.getsockname()[1]}/x", tmp_path / "x", "0" * 32)
    assert time.monotonic() - begin < 4
    assert list(tmp_path.iterdir()) == []
