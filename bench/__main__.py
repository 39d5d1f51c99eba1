"""``senet-bench`` and ``python -m bench``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from bench.cli.app import app

    app(prog_name="senet-bench")


if __name__ == "__main__":
    main()
