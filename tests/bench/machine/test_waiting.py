"""How threads wait: set before torch starts them, unless the user has a wish."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.machine import waiting

CODE = "import bench, os; from bench.machine import waiting; print(waiting.policy())"


def told(code: str, **environ: str) -> str:
    """Return what a fresh process prints, in which nothing is set but what is given."""
    unset = (*waiting.WISHES, waiting.OURS)
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_threads_sleep_soon_from_before_torch_is_imported_on() -> None:
    ours = f"GOMP_SPINCOUNT={waiting.SPIN_COUNT} (senet-bench set it)"
    assert told(f"import sys; {CODE}; assert 'torch' not in sys.modules") == ours


@pytest.mark.parametrize("wish", ["OMP_WAIT_POLICY=active", "GOMP_SPINCOUNT=7", "KMP_BLOCKTIME=0"])
def test_what_the_user_set_is_left_and_told(wish: str) -> None:
    name, _, value = wish.partition("=")
    assert told(CODE, **{name: value}) == f"{wish} (the user set it)"


def test_threads_that_torch_has_started_are_not_said_to_wait_otherwise() -> None:
    assert told(f"import torch; {CODE}") == "OpenMP's default"


def test_a_process_started_from_here_does_not_take_our_choice_for_a_wish() -> None:
    child = f"subprocess.run([sys.executable, '-c', {CODE!r}], check=True)"
    assert "senet-bench set it" in told(f"import bench, subprocess, sys; {child}")


def test_every_record_and_doctor_tell_it() -> None:
    code = "from bench.machine.environment import collect; e = collect('cpu');"
    found = told(f"{code} print(e.flags['threads_wait'], e.env['GOMP_SPINCOUNT'])")
    assert found == f"GOMP_SPINCOUNT={waiting.SPIN_COUNT} (senet-bench set it) {waiting.SPIN_COUNT}"
    found = told("from bench.__main__ import main; import sys; sys.argv[1:] = ['doctor']; main()")
    assert f"waiting by GOMP_SPINCOUNT={waiting.SPIN_COUNT}" in found
