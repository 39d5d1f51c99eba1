"""Be the one who hands out a suite's jobs, by an engine that can do them."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.execute import lock
from bench.execute.launch.launchers import HERE, Launcher, check_launcher, open_launcher
from bench.execute.launch.node import SEEN
from bench.execute.launch.suite import check_engine

CONDUCTOR = "conductor"
PROBE_POLL_S = 0.1
PROBE = "probe-"
PROBES = 4  # a node may go during one


@contextlib.contextmanager
def conducting(name: str, options: Mapping[str, Any], runs: Path) -> Iterator[Launcher | None]:
    """Yield the launcher while nobody else hands out jobs of ``runs``; None for this machine.

    Raises UserError for a launcher or an option that there is not, where the engine cannot be
    reached, where its nodes do not see ``runs``, and where another conductor is at work.
    """
    check_launcher(name)
    if name == HERE:
        if options:
            raise UserError("--set-launcher is for --on slurm and --on ray")
        yield None
        return
    with lock.held(runs / CONDUCTOR):
        launcher = open_launcher(name, options, runs)
        try:
            check_engine(runs, launcher)
            if launcher.is_remote:
                probe(launcher, runs)
            yield launcher
        finally:
            launcher.close()


def probe(launcher: Launcher, runs: Path) -> None:
    """Let a job look for a folder of ``runs``; UserError where its node does not see it."""
    for left in runs.glob(PROBE + 8 * "[0-9a-f]"):  # by one that was killed meanwhile
        shutil.rmtree(left, ignore_errors=True)
    folder = runs / f"{PROBE}{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        if not any(_is_seen(launcher, folder) for _ in range(PROBES)):
            raise UserError(
                f"the nodes do not see {runs.resolve()}: choose a folder that they share"
                " (--runs), or on Ray one of their own (--set-launcher scratch=/FOLDER)"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_seen(launcher: Launcher, folder: Path) -> bool:
    """Tell whether a job came to see a folder before it was over."""
    job_id = launcher.submit(folder, False)
    while not (folder / SEEN).exists():
        launcher.bring(job_id, folder)
        # Asked before the last look: a file system may show late what a dead job has written.
        if launcher.is_dead(job_id) and not (folder / SEEN).exists():
            return False
        time.sleep(PROBE_POLL_S)
    return True
