"""Jobs by Ray, on a cluster of two nodes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.events import JobBegan, JobNews
from bench.execute import experiment as conduct
from bench.execute.launch import follow, suite
from bench.execute.launch.conductor import conducting
from bench.execute.launch.node import SEEN
from bench.record.files import sha256
from bench.spec.experiment import parse_experiment

ray = pytest.importorskip("ray")
on_ray = pytest.importorskip("bench.execute.launch.on_ray")
ROOT = Path(__file__).parents[4]
EXPERIMENT = """
name = "suite"
models = ["resnet20"]
stems = ["cifar"]
seeds = [0, 1]
device = "cpu"

[data]
name = "shapes"
train_limit = 64
test_limit = 20

[recipe]
base = "quick"
epochs = 1
"""

PROFILE = """
[profile]
batch_sizes = [64]
timing = { max_s = 0.2, single_stream_s = 0.2 }
memory = false
breakdown = false
"""

SUBMIT = """
import os, sys
from pathlib import Path
from bench.execute.launch.launchers import open_launcher
open_launcher("ray", {"address": sys.argv[1]}, Path()).submit(Path(sys.argv[2]), False)
os._exit(7)
"""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a cluster of two nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, include_dashboard=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_two_nodes_give_the_records_of_here_and_refuse_what_they_have_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Weights bit for bit, by one thread on either side, and Ray warns of no end of a job."""
    monkeypatch.chdir(tmp_path)
    made = parse_experiment(EXPERIMENT, "suite.toml").model_copy(update={"profile": None})
    here = conduct.conduct(made, Path("here"), Path("o1"), emit=lambda event: None)
    runs = Path("there")
    with conducting("ray", {"address": address}, runs) as launcher:
        there = conduct.conduct(
            made, runs, Path("o2"), emit=lambda event: None, launcher=launcher, retries=1
        )
    assert there.failed == here.failed == ()
    assert "worker died" not in "".join(capfd.readouterr())
    assert [run.weights for run in there.runs] == [run.weights for run in here.runs]
    assert {standing.state for standing in follow.Following(runs).standings()} == {"done"}
    for options, words in (
        ({"num_gpus": 1}, "a job is to have 1 GPUs; the largest node of the cluster has 0"),
        ({"num_cpu": 1}, "unknown option of the ray launcher 'num_cpu'; choose from: address"),
    ):
        refused = conducting("ray", {"address": address, **options}, runs)
        with pytest.raises(UserError, match=words):
            refused.__enter__()


def test_a_sitting_finds_the_weights_of_a_shared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Relative paths begin where the command was given, which is not where Ray's workers are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conduct, "render", lambda *_, **__: None)  # of no matter here
    text = EXPERIMENT + PROFILE + 'modes = ["infer"]\nruntimes = ["eager"]\n'
    made = parse_experiment(text, "suite.toml").changed(seeds=(0,))
    with conducting("ray", {"address": address}, Path("runs")) as launcher:
        done = conduct.conduct(
            made, Path("runs"), Path("out"), emit=lambda event: None, launcher=launcher
        )
    assert done.failed == ()
    (profile,) = done.profiles
    assert profile.accuracy is not None
    assert profile.accuracy.top1_correct == done.runs[0].test.top1_correct  # type: ignore[union-attr]


def test_without_a_shared_folder_what_was_made_comes_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Workers write into folders of their own: the same records, a profile of the same weights."""
    monkeypatch.chdir(tmp_path)
    made = parse_experiment(EXPERIMENT + PROFILE, "suite.toml")
    trained = made.model_copy(update={"profile": None})
    here = conduct.conduct(trained, Path("here"), Path("o1"), emit=lambda event: None)
    runs, scratch = Path("there"), tmp_path / "node"
    options = {"address": address, "scratch": str(scratch)}
    with conducting("ray", options, runs) as launcher:
        there = conduct.conduct(
            made, runs, Path("o2"), emit=lambda event: None, launcher=launcher, retries=1
        )
    assert there.failed == ()
    assert [run.weights for run in there.runs] == [run.weights for run in here.runs]
    for run in there.runs:
        folder = runs / run.id
        for facts in (run.weights, run.predictions):
            assert facts is not None
            assert sha256(folder / facts.name) == facts.sha256
        there_are, are_here = (
            {p.name for p in place.iterdir()} - {"job.jsonl", "events.jsonl"}
            for place in (folder, Path("here") / run.id)
        )
        assert there_are == are_here
    assert {standing.state for standing in follow.Following(runs).standings()} == {"done"}
    (profile,) = there.profiles
    assert profile.accuracy is not None
    assert profile.accuracy.top1_correct == there.runs[0].test.top1_correct  # type: ignore[union-attr]
    assert list(scratch.rglob("*.safetensors")) == []


def test_a_node_that_goes_takes_its_part_along_and_the_run_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Its actor is killed once the job has begun: nothing of it is here, and it is done again."""
    monkeypatch.chdir(tmp_path)
    made = parse_experiment(EXPERIMENT, "suite.toml")
    made = made.model_copy(update={"profile": None, "seeds": (0,)})
    runs, begun = Path("there"), []

    def emit(news: object) -> None:
        if isinstance(news, JobNews) and isinstance(news.event, JobBegan):
            begun.append(news.name)
            if len(begun) == 1:
                (name,) = suite.running(runs).values()
                ray.kill(ray.get_actor(name, namespace=on_ray.NAMESPACE))
                assert not list((runs / news.name).glob("*.safetensors"))

    options = {"address": address, "scratch": str(tmp_path / "node")}
    with conducting("ray", options, runs) as launcher:
        done = conduct.conduct(made, runs, Path("o"), emit=emit, launcher=launcher, retries=1)
    assert len(begun) == 2
    assert done.failed == ()
    assert len(done.runs) == 1


def test_a_job_that_waits_for_room_is_done_though_whoever_handed_it_over_is_gone(
    tmp_path: Path, address: str
) -> None:
    """Two actors have all CPUs until the process that submitted has ended."""
    ray.init(address=address)
    full = [ray.remote(num_cpus=1)(on_ray.Away).remote(str(tmp_path / "no"), {}) for _ in range(2)]
    ray.get([actor.news.remote(0) for actor in full])
    done = subprocess.run([sys.executable, "-c", SUBMIT, address, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert not (tmp_path / SEEN).exists()
    for actor in full:
        ray.kill(actor)
    give_up = time.monotonic() + 120
    # And it ends, though nobody asks for that.
    while not (tmp_path / SEEN).exists() or ray.util.list_named_actors(all_namespaces=True):
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_a_sitting_has_the_largest_node_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its CPUs and GPUs, and a thread for each; a training what was asked for."""
    asked: list[dict[str, Any]] = []

    class Made:
        def options(self, **settings: object) -> Made:
            asked.append(settings)
            return self

        def remote(self, *given: bytes) -> None:
            assert given == (os.fsencode(tmp_path), os.getcwdb())

    nodes = [{"Resources": {"CPU": 4, "GPU": 2}}, {"Resources": {"CPU": 16}}]
    monkeypatch.setattr(on_ray, "_nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda worker: Made())
    monkeypatch.setenv("PYTHONPATH", "")  # which would overrule the node's
    for num_gpus, exclusive, told in (
        (0, False, (2, 0)),
        (1, False, (2, 1)),
        (1, True, (4, 2)),
        (0, True, (16, 0)),
    ):
        on_ray._submit(2, num_gpus, None, tmp_path, exclusive)
        assert (asked[-1]["num_cpus"], asked[-1]["num_gpus"]) == told
        assert asked[-1]["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": str(told[0])}}


def test_a_job_is_cancelled_by_its_name_unless_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []

    def get_actor(name: str, namespace: str) -> str:
        if name == "gone":
            raise ValueError(name)
        return f"{namespace}: {name}"

    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(ray, "kill", killed.append)
    for name in ("gone", "living"):
        on_ray._cancel(name)
    assert killed == [f"{on_ray.NAMESPACE}: living"]


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    for address, words in (
        ("localhost:1", "no Ray cluster can be reached at localhost:1: .*refused"),
        ("nowhere.invalid:6379", "no Ray cluster can be reached at nowhere.invalid:6379"),
        ("localhost:port", "no Ray cluster can be reached at localhost:port: invalid literal"),
    ):
        with pytest.raises(UserError, match=words):
            conducting("ray", {"address": address}, tmp_path).__enter__()
    with pytest.raises(UserError, match="scratch is a folder of every node, /…, not 'here'"):
        conducting("ray", {"scratch": "here"}, tmp_path).__enter__()
