"""Processes killed without warning, at random moments: nothing lost, nothing torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NUM_KILLS = int(os.environ.get("SENET_BENCH_KILLS", "60"))


@pytest.mark.parametrize(
    ("model", "num_kills"),
    [
        ("tiny", NUM_KILLS),
        # A user's file: no BatchNorm, and it draws from torch's, Python's and NumPy's generators.
        (f"py:{ROOT / 'tests' / 'factories' / 'user_model.py'}:make", NUM_KILLS // 3),
    ],
)
def test_a_training_killed_at_random_moments_always_goes_on_to_the_same_weights(
    model: str, num_kills: int, tmp_path: Path
) -> None:
    """No checkpoint is ever damaged or lost, and every training ends as one that was never killed.

    It saves after every step, and a good part of the kills fall into a save.
    """
    script = ROOT / "tests" / "factories" / "kill_trials.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(num_kills), "0", model],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == num_kills
    assert found["in_a_save"] >= num_kills // 20, found
    assert found["trainings"] >= 2, found
    lost = {name: found[name] for name in ("damaged", "steps_lost", "other_weights")}
    assert lost == {"damaged": 0, "steps_lost": 0, "other_weights": 0}
