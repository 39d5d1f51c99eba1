"""Measure two checkouts of the code in turns: the process is what is repeated, in ABBA order.

Each process runs ``profile`` of its own checkout, so that both sides use the code they are about
and nothing is shared but the machine. What the machine does meanwhile hits both sides alike.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bench.errors import UserError
from bench.execute.jobs import profiles_in

# How often a pair is measured again because other work starved one of its processes.
MAX_REPEATS = 3


@dataclass(frozen=True)
class Turns:
    """What was measured: pairs of processes, and how many were thrown away as starved."""

    num_pairs: int
    num_repeated: int
    out_of_time: bool


def measure_in_turns(
    base: Path,
    new: Path,
    what: Sequence[str],
    out: Path,
    *,
    num_pairs: int,
    timeout_s: float | None,
    say: Callable[[str], None],
) -> Turns:
    """Profile both checkouts ``num_pairs`` times, records into ``out``/base and ``out``/new.

    ``what`` are arguments of ``profile``. A pair in which other work starved a process is measured
    again, three times in all at most. No pair begins that would, by the longest one so far, end
    after ``timeout_s``. Raises UserError with the last line of a process that failed.
    """
    begin, longest, repeated, done = monotonic(), 0.0, 0, 0
    while done < num_pairs:
        if timeout_s is not None and done and monotonic() - begin + longest > timeout_s:
            return Turns(done, repeated, out_of_time=True)
        started = monotonic()
        sides = [("base", base), ("new", new)]
        starved = False
        for name, checkout in sides if done % 2 == 0 else sides[::-1]:
            say(f"pair {done + 1} of {num_pairs}: {name}")
            starved |= _one_process(checkout, what, out / name / f"{done}")
        longest = max(longest, monotonic() - started)
        if starved and repeated < MAX_REPEATS:
            repeated += 1
            say("other work used the machine; measuring this pair again")
            continue
        done += 1
    return Turns(done, repeated, out_of_time=False)


def _one_process(checkout: Path, what: Sequence[str], folder: Path) -> bool:
    """Profile a checkout in a process of its own; tell whether other work starved it."""
    for record in folder.glob("*.json"):  # of a pair that is measured again
        record.unlink()
    command = [sys.executable, "-m", "bench", "profile", *what, "--no-charts"]
    done = subprocess.run(
        [*command, "--out", str(folder.resolve())],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        why = last[0] if last else f"exit code {done.returncode}"
        raise UserError(f"profile {shlex.join(what)} failed in {checkout}: {why}")
    return any(record.noise.starved for record in profiles_in(folder) if record.noise)


@contextlib.contextmanager
def checkout(place: str) -> Iterator[Path]:
    """Yield the folder of a checkout; a git revision of this one is checked out meanwhile.

    Raises UserError for what is neither a checkout of this project nor a revision.
    """
    if (Path(place) / "bench" / "__main__.py").is_file():
        yield Path(place).resolve()
        return
    commit = _git("rev-parse", "--verify", "--quiet", f"{place}^{{commit}}")
    if commit is None:
        raise UserError(f"{place} is neither a checkout of senet-bench nor a git revision here")
    with tempfile.TemporaryDirectory(prefix="senet-bench-") as folder:
        tree = Path(folder) / commit[:12]
        if _git("worktree", "add", "--detach", str(tree), commit) is None:
            raise UserError(f"git cannot check out {place}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str | None:
    """Return what git says, None where it refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
