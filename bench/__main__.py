"""``senet-bench`` and ``python -m bench``."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn, TextIO

from bench.errors import EXIT_USAGE
from bench.signals import EXIT_INTERRUPTED


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        from bench.cli.app import app

        app(prog_name="senet-bench")
    except KeyboardInterrupt:  # before there was a command to end
        _leave("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        if not (message := _refused(error)):
            raise
        _leave(f"error: {message}", EXIT_USAGE)
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _silence(sys.stdout)
            if error.errno != errno.EPIPE:  # whoever read it has seen enough
                _leave(f"error: cannot write the output: {error.strerror}", EXIT_USAGE)


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


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
