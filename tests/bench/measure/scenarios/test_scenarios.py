"""From files to classes, and as a server."""

from __future__ import annotations

import time

import deployed
import numpy as np
import pytest
import torch

from bench.measure.clock import Clock
from bench.measure.scenarios import end_to_end, server
from bench.record.deployment import ServerFacts

CLOCK = Clock(synchronize=lambda: None)


def test_files_become_the_classes_that_the_pixels_have() -> None:
    """Decoded, normalised and classified: as many are right as of the stored pixels, JPEG apart."""
    tested = deployed.test_set()
    session = deployed.session_of(deployed.network())
    source = end_to_end.source_of(tested, deployed.SIZE)
    steps = end_to_end._steps(source, session)
    value: object = source.encoded
    with torch.inference_mode():
        for step in steps.values():
            value = step(value)
    labels = tested.dataset.test.labels[: len(source.encoded)].tolist()
    right = np.mean([a == b for a, b in zip(value, labels, strict=True)])  # type: ignore[call-overload]
    assert right > 0.6
    assert source.words == "JPEG, colours, 8×8"


def test_every_part_is_timed_and_the_whole_is_of_whole_batches() -> None:
    """A slow model takes most of the time, whole and in parts; images are resized where needed."""
    session = deployed.session_of(deployed.network())
    slow = type(session)(lambda x: (time.sleep(0.02), session.call(x))[1], session.adapt)
    source = end_to_end.source_of(deployed.test_set(), 16)
    with torch.inference_mode():
        timing, facts = end_to_end.measure(slow, source, 4, 0.3, CLOCK)
    assert tuple(facts.part_s) == end_to_end.PARTS
    assert all(seconds > 0 for seconds in facts.part_s.values())
    assert facts.part_s["model"] / sum(facts.part_s.values()) > 0.7
    assert min(timing.block_s) >= 0.02
    assert len(timing.block_s) >= end_to_end.MIN_BATCHES
    assert facts.num_images % 4 == 0


def test_without_a_data_set_images_are_drawn() -> None:
    source = end_to_end.source_of(None, 24)
    assert source.words == "JPEG, drawn, 24×24"
    assert all(file[:2] == b"\xff\xd8" for file in source.encoded)


def test_arrivals_are_those_of_a_poisson_process() -> None:
    """Gaps have the mean and the standard deviation of 1 / rate, and depend on the seed alone."""
    times = server.arrivals(50, 20_000, seed=1)
    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(0.02, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.02, rel=0.05)
    assert times.tolist() == server.arrivals(50, 20_000, seed=1).tolist()


def test_requests_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once: the second's latency holds the first's service."""
    monkeypatch.setattr(server, "arrivals", lambda *a: np.array([0.0, 0.0, 0.5]))
    latencies = server._serve(lambda: time.sleep(0.05), 10, 1.0, 0)
    assert latencies[0] == pytest.approx(0.05, abs=0.04)
    assert latencies[1] == pytest.approx(0.10, abs=0.06)
    assert latencies[1] > latencies[0] + 0.04
    assert latencies[2] == pytest.approx(0.05, abs=0.04)


def test_the_highest_rate_lies_between_one_that_holds_and_one_that_does_not() -> None:
    """Served in 2 ms: half of 500/s holds a bound of 100 ms; every trial is kept with its p99."""
    facts = server.measure(
        lambda: time.sleep(0.002), 0.002, rate=None, bound_s=0.1, max_s=0.3, seed=0
    )
    assert facts.rate == 250
    assert len(facts.trials) == 1 + server.NUM_STEPS
    assert facts.highest_rate is not None
    held = [trial.rate for trial in facts.trials[1:] if trial.within]
    assert facts.highest_rate == max(held)
    assert all(trial.within == (trial.p99_s <= 0.1) for trial in facts.trials)


def test_a_bound_that_nothing_keeps_has_no_rate() -> None:
    facts = server.measure(
        lambda: time.sleep(0.002), 0.002, rate=100, bound_s=1e-4, max_s=0.1, seed=0
    )
    assert facts.highest_rate is None


@pytest.mark.parametrize(("rate", "refused"), [(None, False), (99, False), (101, True)])
def test_a_rate_beyond_what_can_be_served_is_told(rate: float | None, refused: bool) -> None:
    problem = server.rate_problem(rate, 0.01)
    assert (problem is not None) == refused
    assert problem is None or "at most 100/s" in problem


def test_a_99th_percentile_is_told_from_a_thousand_requests_on() -> None:
    def of(number: int) -> ServerFacts:
        latencies = tuple(i / 1000 for i in range(number))
        return ServerFacts(rate=1, latency_s=latencies, bound_s=1, highest_rate=None, trials=())

    assert of(999).latency_ms(99) is None
    assert of(1000).latency_ms(99) == pytest.approx(989.01)
    assert of(1000).latency_ms(50) == pytest.approx(499.5)
