"""Kill trainings with SIGKILL at random moments and go on with them; tell how it went as JSON.

Run as a script it is a process that has imported everything and computed nothing, from which every
training is forked: so a kill costs what the training did, and not the imports. A training saves
after every step, so that many kills fall into a save.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import senet
from bench import data
from bench.compute import model
from bench.data import Dataset
from bench.execute import run_folder, train_run
from bench.record.files import sha256
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, RunSpec
from bench.spec.values import validated
from bench.train import checkpoint, saver
from tests.conftest import build_tiny

DATA = DataSpec(name="shapes", train_limit=80, test_limit=20)
RECIPE = Recipe(
    name="k", epochs=4, batch_size=16, lr=0.05, milestones=(2,), crop_padding=2, ema_decay=0.9
)


@dataclass
class Outcome:
    """How many were killed, in a save, before anything was saved; what was lost of them."""

    kills: int = 0
    in_a_save: int = 0
    trainings: int = 0
    damaged: int = 0
    steps_lost: int = 0
    other_weights: int = 0


def start(spec: RunSpec, dataset: Dataset, out: Path) -> int:
    """Train, or go on, in a forked process; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        train_run.train_run(spec, dataset, out, emit=lambda event: None, if_unfinished="resume")
        os._exit(0)
    finally:
        os._exit(1)


def finish(child: int) -> int:
    """Wait for a process and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def steps_saved(folder: Path) -> tuple[int, int]:
    """Return how far the newest checkpoint is, and how many are damaged."""
    state, problems = checkpoint.load_newest(folder, "cpu")
    return (4 * state["epoch"] + state["step"] if state else 0), len(problems)


def trials(spec: RunSpec, dataset: Dataset, out: Path, num_kills: int, seed: int) -> Outcome:
    """Train again and again, killing at random, until there were so many kills."""
    draw, outcome = random.Random(seed), Outcome()
    begin = time.monotonic()
    assert finish(start(spec, dataset, out / "whole")) == 0
    whole_s = time.monotonic() - begin
    expected = sha256(out / "whole" / spec.folder_name() / run_folder.WEIGHTS)
    reached, is_begun = 0, False
    while outcome.kills < num_kills or is_begun:
        folder = out / str(outcome.trainings) / spec.folder_name()
        child = start(spec, dataset, folder.parent)
        if outcome.kills < num_kills:
            time.sleep(draw.uniform(0, whole_s))
            os.kill(child, signal.SIGKILL)
        code = finish(child)
        if code == 0:
            outcome.trainings += 1
            outcome.other_weights += sha256(folder / run_folder.WEIGHTS) != expected
            reached, is_begun = 0, False
            continue
        assert code == -signal.SIGKILL, f"a training ended with exit code {code}"
        outcome.kills += 1
        outcome.in_a_save += bool(list(folder.glob(".*.tmp")))
        saved, damaged = steps_saved(folder)
        outcome.damaged += damaged
        outcome.steps_lost += max(0, reached - saved)
        reached, is_begun = saved, True
    return outcome


def main() -> None:
    """Take the folder, the number of kills, the seed and the model from the command line."""
    out, num_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    name = sys.argv[4]
    torch.set_num_threads(1)
    saver.CHECKPOINT_EVERY_S, saver.MAX_SHARE = 0.0, 1e9
    senet.MODELS["tiny"] = build_tiny
    dataset = data.load(DATA)
    wanted = {
        "model": model.identify(name, dataset, stem="cifar" if name == "tiny" else None),
        "data": DATA,
        "recipe": RECIPE,
        "val_split": 0.2,
    }
    outcome = trials(validated(RunSpec, wanted), dataset, out, num_kills, seed)
    print(json.dumps(asdict(outcome)))  # noqa: T201  # the answer


if __name__ == "__main__":
    main()
