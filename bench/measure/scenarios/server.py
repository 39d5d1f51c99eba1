"""A session as a server: single images arrive at random, and wait while others are classified.

MLPerf's server scenario (Reddi et al., 1911.02549, section IV-B): Poisson arrivals at a given rate,
latency from arrival to result, and the highest rate that keeps the 99th percentile under a bound.
One process serves, one request after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from time import perf_counter, sleep

import numpy as np

from bench.record.deployment import ServerFacts, ServerTrial

MAX_REQUESTS = 1000  # from which on a 99th percentile is told
MIN_REQUESTS = 100
NUM_STEPS = 6  # of the search for the highest rate: a 64th of what can be served
SPIN_S = 2e-3  # sleeping may last this much too long


def rate_problem(rate: float | None, service_s: float) -> str | None:
    """Return why requests at this rate cannot be served, where a call takes ``service_s``."""
    if rate is None or rate * service_s < 1:
        return None
    return (
        f"requests at {rate:g}/s are beyond what can be served here: at most"
        f" {1 / service_s:.3g}/s, one after the other"
    )


def measure(
    serve: Callable[[], None],
    service_s: float,
    *,
    rate: float | None,
    bound_s: float,
    max_s: float,
    seed: int,
) -> ServerFacts:
    """Serve at ``rate`` (half of what can be served if None), then seek the highest rate.

    ``serve`` classifies one image and returns when its class is known. A trial takes at most
    ``max_s`` seconds, save that it has `MIN_REQUESTS` at least.
    """
    chosen = 0.5 / service_s if rate is None else rate
    seeds = itertools.count(seed)
    latencies = _serve(serve, chosen, max_s, next(seeds))
    trials = [_trial(chosen, latencies, bound_s)]
    low, high = 0.0, 1 / service_s
    for _ in range(NUM_STEPS):
        tried = (low + high) / 2
        trial = _trial(tried, _serve(serve, tried, max_s / NUM_STEPS, next(seeds)), bound_s)
        trials.append(trial)
        low, high = (tried, high) if trial.within else (low, tried)
    return ServerFacts(
        rate=chosen,
        latency_s=tuple(latencies),
        bound_s=bound_s,
        highest_rate=low or None,
        trials=tuple(trials),
    )


def arrivals(
    rate: float, num_requests: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return when requests arrive, in seconds from the start: gaps are exponential."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, num_requests)
    return np.cumsum(gaps)


def _serve(serve: Callable[[], None], rate: float, max_s: float, seed: int) -> list[float]:
    """Return each request's seconds from its arrival to its result."""
    number = int(min(MAX_REQUESTS, max(MIN_REQUESTS, rate * max_s)))
    begin = perf_counter()
    latencies = []
    for arrival in arrivals(rate, number, seed).tolist():
        _wait_until(begin + arrival)
        serve()
        latencies.append(perf_counter() - begin - arrival)
    return latencies


def _wait_until(moment: float) -> None:
    """Return at a moment, or at once where it has passed: the request was waiting."""
    while (left := moment - perf_counter()) > 0:
        if left > SPIN_S:
            sleep(left - SPIN_S)


def _trial(rate: float, latencies: Sequence[float], bound_s: float) -> ServerTrial:
    p99 = float(np.quantile(latencies, 0.99))
    return ServerTrial(rate=rate, num_requests=len(latencies), p99_s=p99, within=p99 <= bound_s)
