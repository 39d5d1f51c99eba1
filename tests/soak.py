"""Kill a real training at random for a while; it must end with the weights of one left alone.

    python tests/soak.py DATA [--minutes 30] [--out FOLDER]

``DATA`` is a folder of images, train/<class> and test/<class>. A ResNet-18 is trained on it twice,
once in one go and once killed by SIGKILL (and now and then asked to end by SIGTERM) at random
moments, for as many pairs of trainings as fit into the time. Exit code 1 says that something was
lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "resnet18"
# The command line, saving more often than it usually does.
SENET_BENCH = """
from bench import __main__
from bench.train import saver
saver.CHECKPOINT_EVERY_S, saver.MAX_SHARE = 5.0, 0.1
__main__.main()
"""
EXIT_PREEMPTED = 75
LONGEST_PIECE_S = 60.0


@dataclass
class Tally:
    """What happened up to now."""

    trainings: int = 0
    kills: int = 0
    preemptions: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.trainings} trainings, {self.kills} kills, {self.preemptions} preemptions,"
            f" {len(self.failures)} lost"
        )


def command(data: Path, out: Path, seed: int, epochs: int) -> list[str]:
    return [
        *(sys.executable, "-c", SENET_BENCH, "train", MODEL, "--dataset", "folder", "--resume"),
        *("--data-dir", str(data), "--recipe", "standard", "--val-split", "0.1"),
        *("--epochs", str(epochs), "--seed", str(seed), "--out", str(out)),
    ]


def train_whole(arguments: list[str], log: Path) -> float:
    """Train without interruption; return the seconds it took."""
    begin = time.monotonic()
    with log.open("a") as file:
        subprocess.run(arguments, stdout=file, stderr=file, check=True)
    return time.monotonic() - begin


def train_in_pieces(
    arguments: list[str], log: Path, whole_s: float, draw: random.Random, tally: Tally, end: float
) -> None:
    """Train, ended at random and gone on with, until it is finished; in peace after ``end``."""
    while True:
        with log.open("a") as file:
            process = subprocess.Popen(arguments, stdout=file, stderr=file)
            is_kill = draw.random() < 0.75
            if time.monotonic() < end:
                try:
                    process.wait(draw.uniform(0, min(0.6 * whole_s, LONGEST_PIECE_S)))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL if is_kill else signal.SIGTERM)
            code = process.wait()
        if code == 0:
            return
        tally.kills += code == -signal.SIGKILL
        tally.preemptions += code in (EXIT_PREEMPTED, -signal.SIGTERM)
        if code not in (EXIT_PREEMPTED, -signal.SIGKILL, -signal.SIGTERM):
            tally.failures.append(f"exit code {code}; see {log}")
            return


def outcome(out: Path) -> dict[str, object]:
    """Return what two trainings must have in common: weights, predictions, losses, accuracy."""
    (record,) = out.glob("*/run.json")
    facts = json.loads(record.read_text(encoding="utf-8"))
    weights = record.parent / facts["weights"]["name"]
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "predictions": facts["predictions"],
        "test": facts["test"],
        "epochs": [(e["loss"], e["top1"], e["val_top1"], e["lr"]) for e in facts["epochs"]],
        "left behind": sorted(p.name for p in record.parent.iterdir() if p.name.startswith(".")),
    }


def soak(data: Path, out: Path, minutes: float, epochs: int) -> Tally:
    """Compare trainings in pieces with trainings in one go until the time is over."""
    tally, draw = Tally(), random.Random(0)
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and not tally.failures:
        seed = tally.trainings
        whole, pieces = out / f"whole-{seed}", out / f"pieces-{seed}"
        whole_s = train_whole(command(data, whole, seed, epochs), out / "whole.log")
        arguments = command(data, pieces, seed, epochs)
        train_in_pieces(arguments, out / "pieces.log", whole_s, draw, tally, end)
        tally.trainings += 1
        if not tally.failures:
            found, expected = outcome(pieces), outcome(whole)
            different = [name for name in expected if found[name] != expected[name]]
            tally.failures += [f"seed {seed}: other {name}" for name in different]
        say(f"{tally}; one in one go takes {whole_s:.0f} s")
    return tally


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line, soak, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with train/<class> and test/<class>")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--epochs", type=int, default=2, help="of each training")
    parser.add_argument("--out", type=Path, help="folder to train in (default: a temporary one)")
    given = parser.parse_args()
    if not (given.data / "train").is_dir():
        parser.error(f"{given.data} has no train/ folder")
    out = given.out or Path(tempfile.mkdtemp(prefix="senet-bench-soak-"))
    out.mkdir(parents=True, exist_ok=True)
    say(f"training {MODEL} on {given.data} in {out} for {given.minutes:g} minutes")
    tally = soak(given.data, out, given.minutes, given.epochs)
    for failure in tally.failures:
        say(f"lost: {failure}")
    say(str(tally))
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
