"""``senet-bench`` and ``python -m bench``."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import NoReturn, TextIO


def main() -> None:
    """Run the command line."""
    try:  # all that can be imported is imported inside: Ctrl-C may come at any moment
        from bench.signals import tidily_ended

        with tidily_ended(), _flushed():
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):  # what cannot be shown must not end the work
                    stream.reconfigure(errors="backslashreplace")
            from bench.cli.app import app

            app(prog_name="senet-bench")
    except KeyboardInterrupt:  # before there was a command to end
        from bench.signals import EXIT_INTERRUPTED

        _leave("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        if not (message := _refused(error)):
            raise
        _leave_wrong(message)


@contextlib.contextmanager
def _flushed() -> Iterator[None]:
    """Write in the end what still waits to be, and say so where that fails."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _silence(sys.stdout)
            if error.errno != errno.EPIPE:  # whoever read it has seen enough
                _leave_wrong(f"cannot write the output: {error.strerror}")


def _refused(error: OSError) -> str | None:
    """Return what to say where a file, or the output, is what the system refused."""
    if error.filename is not None:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        _silence(sys.stdout)
        return f"cannot write the output: {error.strerror}"
    return None


def _silence(stream: TextIO) -> None:
    """Let what is still to be written go nowhere, so that the end of Python does not fail too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave_wrong(message: str) -> NoReturn:
    from bench.errors import EXIT_USAGE

    _leave(f"error: {message}", EXIT_USAGE)


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
