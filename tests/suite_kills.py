"""Kill a suite of small jobs at random: every job must be done once, none lost, none twice.

    python tests/suite_kills.py [worker|conductor|node|conductor-on-ray] [--times 20]

``worker`` kills a process that does a job of submitit's local executor, or that started it;
``conductor`` the command itself, which is then given again; ``node`` all processes of one of two
nodes of a Ray cluster, which another one replaces. Suites follow each other, with other seeds,
until there were enough kills. A run also has to have the weights of one that was left alone.
Exit code 1 says that something was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.events import RunDone
from bench.execute import experiment as conduct
from bench.execute import train_run
from bench.execute.launch.journal import Tail
from bench.execute.run_folder import RECORD, load_run
from bench.spec.experiment import Experiment, parse_experiment

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 5  # trainings of a suite; its sitting is one job more
EXPERIMENT = f"""
name = "kills"
models = ["py:{ROOT}/tests/factories/user_model.py:make"]
seeds = SEEDS
device = "cpu"

[data]
name = "shapes"
train_limit = 64
test_limit = 20

[recipe]
base = "quick"
epochs = 20

[profile]
batch_sizes = [8]
timing = {{ max_s = 0.1, max_warmup_s = 0.1 }}
memory = false
breakdown = false
accuracy = false
"""
LONGEST_S = 1800.0  # of a suite, before it counts as hanging
LOCAL = ("slurm", "cluster=local")
KINDS = ("worker", "conductor", "node", "conductor-on-ray")
# From one kill to the next: shorter than a job, or a conductor, takes, and now and then longer.
PAUSE_S = {"worker": (0.5, 4.0), "node": (1.0, 8.0)}
CONDUCTORS_PAUSE_S = (0.5, 14.0)
HANDING_OUT = 0.75  # of the commands that are killed
NODE_TRIES = 5
TORN = 0.5  # of the nodes die with all that runs there, as without power
LEFT = (".*", "*.lock", "launched.jsonl")  # what nothing may be called at the end
OWN = {"job.jsonl", "events.jsonl"}  # what a run that a launcher made has besides

Kill = Callable[["subprocess.Popen[bytes]", Path], bool]


@dataclass
class Tally:
    """What happened up to now; ``problems`` name every job that was not done once."""

    kills: int = 0
    conductors: int = 0
    jobs: int = 0
    once: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, name: str, times: int) -> None:
        """Add a job that was done so often."""
        self.jobs += 1
        self.once += times == 1
        self.lost += times == 0
        self.twice += times > 1
        if times != 1:
            self.problems.append(f"{name} was done {times} times")

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.conductors} conductors, {self.jobs} jobs: {self.once} done"
            f" once, {self.lost} lost, {self.twice} twice; {len(self.problems)} problems"
        )


@contextlib.contextmanager
def engine(kind: str) -> Iterator[tuple[tuple[str, str], Kill]]:
    """Yield a launcher with its options, and what kills something of it if it is there."""
    if kind in ("worker", "conductor"):
        yield LOCAL, kill_worker if kind == "worker" else kill_conductor
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})

    def add_node() -> Any:
        for _ in range(NODE_TRIES):  # Ray gives a node of a busy machine up after half a minute
            with contextlib.suppress(Exception):
                return cluster.add_node(num_cpus=1, include_dashboard=False)
        raise RuntimeError("Ray does not start a node")

    nodes = [add_node() for _ in range(2)]

    def kill_node(conductor: subprocess.Popen[bytes], folder: Path) -> bool:
        if not list(folder.glob("*/events.jsonl")):
            return False  # it still looks whether the nodes see the folder, and would refuse them
        node = nodes.pop(random.randrange(2))
        tree = [
            psutil.Process(one.process.pid) for own in node.all_processes.values() for one in own
        ]
        if random.random() < TORN:  # else what its jobs started has to notice that its node is gone
            tree += [child for process in tree for child in process.children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        cluster.remove_node(node, allow_graceful=False)
        nodes.append(add_node())
        return True

    try:
        options = ("ray", f"address={cluster.address}")
        yield options, kill_node if kind == "node" else kill_conductor
    finally:
        cluster.shutdown()


def kill_conductor(conductor: subprocess.Popen[bytes], folder: Path) -> bool:
    """Kill a command; three of four only once it hands out jobs, and as much later by chance."""
    lock = folder / "conductor" / "writer.lock"
    if random.random() < HANDING_OUT:
        while conductor.poll() is None and f'"pid": {conductor.pid},' not in read(lock):
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            conductor.wait(random.uniform(0.0, CONDUCTORS_PAUSE_S[1]))
    if conductor.poll() is not None:
        return False
    conductor.kill()
    return True


def read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def kill_worker(conductor: subprocess.Popen[bytes], folder: Path) -> bool:
    """Kill a process that does a job of a folder, or one of the two that started it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        of_job = "bench.execute.jobs" in words or any("submitit" in word for word in words)
        if of_job and any(word.startswith(str(folder)) for word in words):
            found.append(process)
    if not found:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        random.choice(found).kill()
        return True
    return False


def carry_out(
    arguments: list[str], folder: Path, pause_s: tuple[float, float], kill: Kill, left: int
) -> Tally:
    """Give the command until it ends by itself, killing now and then, ``left`` times at most."""
    tally, begin = Tally(), time.monotonic()
    while time.monotonic() - begin < LONGEST_S:
        with (folder.parent / "output.txt").open("ab") as output:
            conductor = subprocess.Popen(arguments, stdout=output, stderr=output)
        tally.conductors += 1
        was_killed = False
        while conductor.poll() is None and time.monotonic() - begin < LONGEST_S:
            with contextlib.suppress(subprocess.TimeoutExpired):
                conductor.wait(random.uniform(*pause_s))
            if conductor.poll() is None and tally.kills < left and kill(conductor, folder):
                tally.kills += 1
                was_killed = kill is kill_conductor
                if was_killed:
                    conductor.wait()
        if conductor.poll() == 0:
            return tally
        if not was_killed:
            break
    conductor.kill()
    ended = conductor.wait()
    tally.problems.append(f"the conductor of {folder} ended with {ended}, or not in {LONGEST_S} s")
    return tally


def left_alone(experiment: Experiment, out: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights of every run, made in this process."""
    dataset, _ = train_run.load_data(experiment.data, lambda event: None)
    (model,) = conduct.models(experiment, dataset)
    weights = {}
    for seed in experiment.seeds:
        spec = conduct.run_spec(experiment, experiment.device, model, seed)
        record = train_run.train_run(spec, dataset, out, emit=lambda event: None)
        assert record.weights is not None
        weights[record.id] = record.weights.sha256
    return weights


def examine(folder: Path, weights: dict[str, str], tally: Tally) -> None:
    """Count how often every job of a suite was done."""
    for name, sha256 in weights.items():
        events = Tail(folder / name).read()
        told = sum(isinstance(event, RunDone) and not event.reused for event in events)
        # Whoever is killed between the record and the word of it has not told.
        tally.count(name, max(1, told) if (folder / name / RECORD).exists() else 0)
        if (folder / name / RECORD).exists():
            found = load_run(folder / name).weights
            if found is None or found.sha256 != sha256:
                tally.problems.append(f"{name} has other weights")
            there, alone = (
                {path.name for path in (place / name).iterdir()} - OWN
                for place in (folder, folder.parent / "alone")
            )
            if there != alone:
                tally.problems.append(f"{name} has other files: {sorted(there ^ alone)}")
    tally.count(f"the sitting of {folder}", len(list(folder.glob("profiles/*/*.json"))))
    made = {path.name for path in folder.glob("*")} - {"launcher", "profiles"}
    left = [str(path) for name in LEFT for path in folder.rglob(name)] + sorted(made - set(weights))
    tally.problems += [f"left over: {name}" for name in left]


def suites(kind: str, times: int, out: Path, end: float, slow: float) -> Tally:
    """Carry suites out until something was killed so often, or the time is over."""
    total = Tally()
    shortest, longest = PAUSE_S.get(kind, CONDUCTORS_PAUSE_S)
    pause_s = shortest, longest * slow
    with engine(kind) as (launcher, kill):
        while total.kills < times and time.monotonic() < end and not total.problems:
            number = total.jobs // (SEEDS + 1)
            place = out / f"{kind}-{number}"
            place.mkdir(parents=True)
            text = EXPERIMENT.replace("SEEDS", str([SEEDS * number + n for n in range(SEEDS)]))
            (place / "kills.toml").write_text(text)
            arguments = [
                *(sys.executable, "-m", "bench", "run", str(place / "kills.toml"), "--detach"),
                *("--runs", str(place / "runs"), "--out", str(place / "report")),
                *("--retries", "1000", "--on", launcher[0], "--set-launcher", launcher[1]),
            ]
            found = carry_out(arguments, place / "runs", pause_s, kill, times - total.kills)
            total.kills += found.kills
            total.conductors += found.conductors
            total.problems += found.problems
            alone = left_alone(parse_experiment(text, "kills.toml"), place / "alone")
            examine(place / "runs", alone, total)
            say(f"{kind}: {total}")
    return total


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line, kill, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", nargs="?", choices=KINDS, help="what to kill (default: each)")
    parser.add_argument("--times", type=int, default=20, help="how often each kind is killed")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no suite begins")
    parser.add_argument("--slow", type=float, default=1.0, help="times longer from kill to kill")
    parser.add_argument("--out", type=Path, help="folder to run in (default: a temporary one)")
    given = parser.parse_args()
    out = (given.out or Path(tempfile.mkdtemp(prefix="senet-bench-kills-"))).resolve()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    end = time.monotonic() + 60 * given.minutes
    say(f"killing in {out}")
    tallies = {
        kind: suites(kind, given.times, out, end, given.slow)
        for kind in KINDS
        if given.kind in (None, kind)
    }
    for kind, tally in tallies.items():
        say("\n  ".join([f"{kind}: {tally}", *tally.problems]))
    sys.exit(any(tally.problems for tally in tallies.values()))


if __name__ == "__main__":
    main()
