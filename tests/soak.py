"""Kill a real training at random for a while; it must end with the weights of one left alone.

    python tests/soak.py DATA [--minutes 30] [--out FOLDER]

``DATA`` is a folder of images, train/<class> and test/<class>. A ResNet-20 is trained on it twice,
once in one go and once ended at random moments: killed by SIGKILL, asked to end by SIGTERM or
SIGHUP, without room for its checkpoints, or killed with the newest checkpoint damaged; for as many
pairs of trainings as fit into the time. Exit code 1 says that something was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "resnet20"
# The command line, saving more often than it usually does.
SENET_BENCH = """
from bench import __main__
from bench.train import saver
saver.CHECKPOINT_EVERY_S, saver.MAX_SHARE = 2.0, 0.2
__main__.main()
"""
EXIT_USAGE, EXIT_PREEMPTED = 2, 75
LONGEST_PIECE_S = 60.0
NUM_IMAGES = 4000
SMALL_FILES = 200_000  # bytes: less than a checkpoint, as a disk that is nearly full
# How a piece of a training ends, and how often.
ENDS = {"SIGKILL": 5, "SIGTERM": 2, "SIGHUP": 2, "full disk": 2, "damaged checkpoint": 2}


@dataclass
class Tally:
    """What happened up to now."""

    trainings: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.ended[kind]} {kind}" for kind in ENDS)
        return (
            f"{self.trainings} trainings, {self.ended.total()} interruptions ({kinds}),"
            f" {len(self.failures)} lost"
        )


def command(data: Path, out: Path, seed: int, epochs: int) -> list[str]:
    return [
        *(sys.executable, "-c", SENET_BENCH, "train", MODEL, "--dataset", "folder", "--resume"),
        *("--data-dir", str(data), "--recipe", "standard", "--val-split", "0.1"),
        *("--stem", "cifar", "--train-limit", str(NUM_IMAGES), "--test-limit", "1000"),
        *("--epochs", str(epochs), "--seed", str(seed), "--out", str(out)),
    ]


def train_whole(arguments: list[str], log: Path) -> float:
    """Train without interruption; return the seconds it took."""
    begin = time.monotonic()
    with log.open("a") as file:
        subprocess.run(arguments, stdout=file, stderr=file, check=True)
    return time.monotonic() - begin


def train_in_pieces(
    arguments: list[str],
    out: Path,
    log: Path,
    whole_s: float,
    draw: random.Random,
    tally: Tally,
    end: float,
) -> None:
    """Train, ended at random and gone on with, until it is finished; in peace after ``end``."""
    while True:
        how = draw.choices(list(ENDS), list(ENDS.values()))[0] if time.monotonic() < end else ""
        limit = _limit_files if how == "full disk" else None
        with log.open("a") as file:
            process = subprocess.Popen(arguments, stdout=file, stderr=file, preexec_fn=limit)
            if how:
                _end(process, how, draw.uniform(0, min(0.6 * whole_s, LONGEST_PIECE_S)))
            code = process.wait()
        if code == 0:
            return
        expected = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, EXIT_PREEMPTED}
        if code not in expected | ({EXIT_USAGE} if how == "full disk" else set()):
            tally.failures.append(f"exit code {code} after {how}; see {log}")
            return
        tally.ended[how] += 1
        if how == "damaged checkpoint":
            _damage_newest(out, draw)


def _limit_files() -> None:
    """Let no file grow beyond a size in the process that is about to begin."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))


def _end(process: subprocess.Popen[bytes], how: str, after_s: float) -> None:
    """End a training after so many seconds, unless it has ended by itself."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        number = signal.Signals[how] if how.startswith("SIG") else signal.SIGKILL
        process.send_signal(number)


def _damage_newest(out: Path, draw: random.Random) -> None:
    """Overwrite a place in the checkpoint that the training would go on from."""
    for path in sorted(out.glob("*/checkpoint-*.ckpt"), reverse=True)[:1]:
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 0xFF
        path.write_bytes(content)


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
        log = out / "pieces.log"
        train_in_pieces(arguments, pieces, log, whole_s, draw, tally, end)
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
