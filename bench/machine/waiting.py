"""How OpenMP's threads wait for each other: awake for a moment, then asleep.

Imported with the package, before torch, whose OpenMP reads it once. By default GNU's threads stay
awake in every barrier for several milliseconds, longer than a turn that the system gives to a
process: where others compute too, a thread that waits keeps the very core that the one it waits
for needs. Within one network's layers they wait for a fraction of a millisecond.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

WISHES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What a user may have set, which is then left as it is."""
SPIN_COUNT = "10000"  # looks at the barrier: some tenths of a millisecond
OURS = "SENET_BENCH_WAIT"  # so that processes started from here do not take it for a wish


def set_policy(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep soon, unless the user has a wish or torch has started them already."""
    if "torch" in sys.modules or any(environ.get(name) for name in WISHES):
        return
    environ["GOMP_SPINCOUNT"] = environ[OURS] = SPIN_COUNT


def policy(environ: MutableMapping[str, str] = os.environ) -> str:
    """Return in words how threads wait: by what the user set, by what is set here, or by default.

    Read it where torch was imported after this package; else it is what children will do.
    """
    wishes = [f"{name}={environ[name]}" for name in WISHES if environ.get(name)]
    if not wishes:
        return "OpenMP's default"
    is_ours = wishes == [f"GOMP_SPINCOUNT={environ.get(OURS)}"]
    return f"{', '.join(wishes)} ({'senet-bench' if is_ours else 'the user'} set it)"
