"""``senet-bench`` and ``python -m bench``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from bench.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show must not end the work
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="senet-bench")


if __name__ == "__main__":
    main()
