"""Measure image classifiers: accuracy against what it costs to run and to train them."""

__version__ = "0.1.0"

from bench.machine import cores as _cores  # noqa: F401  # before torch, see there
from bench.machine import waiting as _waiting  # before torch as well

_waiting.set_policy()
