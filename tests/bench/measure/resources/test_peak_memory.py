"""Peak memory of a row's work, from fresh processes."""

import subprocess
import sys

import pytest
import torch

from bench.machine.peak import watch_memory
from bench.measure.resources.peak_memory import MemoryServer, ran_out
from bench.record.profile import MemoryFacts
from bench.spec.profile import RowSpec
from bench.spec.run import ModelSpec

MiB = 2**20


def job(name="resnet18", batch_size=1, **changes):
    given = {"device": "cpu", "precision": "fp32", "runtime": "eager", "mode": "infer"}
    model = ModelSpec(name=name, num_classes=10, image_size=32)
    return RowSpec(model=model, batch_size=batch_size, **(given | changes))


@pytest.fixture(scope="module")
def server():
    with MemoryServer() as server:
        yield server


FORKED = """
from bench.execute import train_run
from bench.measure import workload
from bench.measure.resources.peak_memory import MemoryServer
from bench.spec.profile import RowSpec
from bench.spec.run import ModelSpec

def job(batch_size):
    model = ModelSpec(name="resnet18", num_classes=10, image_size=32)
    given = {"device": "cpu", "precision": "fp32", "runtime": "eager", "mode": "infer"}
    return RowSpec(model=model, batch_size=batch_size, **given)

with MemoryServer(fork=True) as server:
    server.expect([job(256), job(1)])
    server.wait()
    for size in (1, 256, 1):
        print(server.ask(job(size)).peak_bytes)
print(server.ask(job(2)))
"""


def test_a_server_made_by_copying_this_process_answers_as_one_started_anew(server):
    """Expected jobs are kept for whoever asks, in any order; a server that is gone is no crash."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    *peaks, gone = done.stdout.splitlines()
    small, large, again = map(int, peaks)
    expected = server.ask(job()).peak_bytes
    assert abs(small - expected) < 0.25 * expected
    assert abs(again - small) < 0.1 * small
    assert large > small + 10 * MiB
    assert gone == "the process that measures memory ended"
    assert done.returncode == 0, done.stderr


def test_answers_that_are_expected_come_in_the_order_of_the_questions(server):
    """What cannot run is an answer too; what was not expected is asked at once."""
    server.expect([job(runtime="cudagraph"), job(batch_size=2)])
    assert isinstance(server.ask(job(batch_size=2)), MemoryFacts)
    assert "CUDA graphs need a CUDA GPU" in server.ask(job(runtime="cudagraph"))
    assert isinstance(server.ask(job(batch_size=3)), MemoryFacts)


def test_the_weights_are_in_the_peak(server):
    """ResNet-18 has 11.2 million parameters, 43 MiB, and the copy in its session as much again."""
    facts = server.ask(job())
    assert isinstance(facts, MemoryFacts), facts
    assert 43 * MiB < facts.peak_bytes < 400 * MiB
    assert facts.total_bytes > facts.peak_bytes
    assert facts.method == "peak resident set"


def test_each_answer_comes_from_a_fresh_process(server):
    """After a batch of 256 the peak of a batch of 1 is the small one again."""
    large, small = server.ask(job(batch_size=256)), server.ask(job(batch_size=1))
    assert isinstance(large, MemoryFacts), large
    assert isinstance(small, MemoryFacts), small
    assert large.peak_bytes > small.peak_bytes + 10 * MiB


def test_training_needs_gradients_and_momentum(server):
    """Two more copies of the weights, 85 MiB, than inference on as many images."""
    training, inference = server.ask(job(batch_size=4, mode="train")), server.ask(job(batch_size=4))
    assert isinstance(training, MemoryFacts), training
    assert isinstance(inference, MemoryFacts), inference
    assert training.peak_bytes > inference.peak_bytes + 60 * MiB


def test_a_batch_beyond_memory_is_said_to_be(server):
    """Ten million images do not fit; the server answers and goes on answering."""
    answer = server.ask(job(batch_size=10_000_000))
    assert isinstance(answer, str)
    assert ran_out(answer)
    assert isinstance(server.ask(job()), MemoryFacts)


def test_what_fails_is_told_in_one_line(server):
    """A runtime that needs a GPU: the reason, and no memory problem."""
    answer = server.ask(job(runtime="cudagraph"))
    assert isinstance(answer, str)
    assert "CUDA graphs need a CUDA GPU" in answer
    assert not ran_out(answer)


def test_a_process_that_the_system_killed_ran_out():
    """Signal 9 is what the kernel ends the largest process with."""
    assert ran_out("the process was ended by signal -9")
    assert not ran_out("ValueError: no such model")


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_the_allocators():
    """A tensor of 64 MiB that is gone again is in the peak."""
    with watch_memory("cuda:0") as peak:
        tensor = torch.empty(64 * MiB, dtype=torch.uint8, device="cuda:0")
        del tensor
    allocated, reserved, method = peak()
    assert 64 * MiB <= allocated <= reserved
    assert method == "CUDA allocator's peak"
