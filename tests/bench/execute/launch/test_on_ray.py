"""Jobs by Ray, on a cluster of two nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.execute import experiment as conduct
from bench.execute.launch import follow
from bench.execute.launch.conductor import conducting
from bench.spec.experiment import parse_experiment

ray = pytest.importorskip("ray")
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Weights bit for bit, by one thread on either side."""
    monkeypatch.chdir(tmp_path)
    made = parse_experiment(EXPERIMENT, "suite.toml").model_copy(update={"profile": None})
    here = conduct.conduct(made, Path("here"), Path("o1"), emit=lambda event: None)
    runs = Path("there")
    with conducting("ray", {"address": address}, runs) as launcher:
        there = conduct.conduct(
            made, runs, Path("o2"), emit=lambda event: None, launcher=launcher, retries=1
        )
    assert there.failed == here.failed == ()
    assert [run.weights for run in there.runs] == [run.weights for run in here.runs]
    assert {standing.state for standing in follow.standings(runs)} == {"done"}
    for options, words in (
        ({"num_gpus": 1}, "a job is to have 1 GPUs; the largest node of the cluster has 0"),
        ({"num_cpu": 1}, "unknown option of the ray launcher 'num_cpu'; choose from: address"),
    ):
        refused = conducting("ray", {"address": address, **options}, runs)
        with pytest.raises(UserError, match=words):
            refused.__enter__()
