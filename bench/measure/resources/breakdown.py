"""Where the time of an eager call goes: every operator timed alone, by stage and kind.

Timing every operator alone takes away what overlaps, so these seconds are shares of a call, not
its time.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.measure.clock import Clock
from bench.measure.count.operators import is_launch, kind_of, plain_name
from bench.measure.count.place import Place
from bench.record.profile import BreakdownFacts

BUDGET_S = 0.5
MIN_CALLS, MAX_CALLS = 2, 30
AHEAD = 3.0  # calls: with marks around each operator one takes longer to launch


def break_down(
    network: nn.Module,
    images: Tensor,
    clock: Clock,
    call_s: float,
    occupy: Callable[[float], None] | None = None,
) -> BreakdownFacts:
    """Return the seconds of one call on ``images`` (B, 3, H, W), which lie on its device.

    ``call_s`` is a call's time as a whole. The network is copied; the first call is not counted.
    ``occupy`` keeps a device with a queue busy while a call is given to it.
    """
    num_calls = 0
    with torch.inference_mode(False), torch.no_grad():
        # Tensors made in inference mode would not be taken apart into operators: copy them here.
        twin, images = copy.deepcopy(network).eval(), images.clone()
        twin(images)
        begin = clock.read()
        with _Timed(Place(twin), clock) as timed:
            while num_calls < MIN_CALLS or clock.read() - begin < BUDGET_S:
                if occupy:
                    occupy(AHEAD * call_s)
                twin(images)
                timed.collect()
                num_calls += 1
                if num_calls == MAX_CALLS:
                    break
        timed_s = clock.read() - begin
    return BreakdownFacts(
        seconds={
            stage: {kind: seconds / num_calls for kind, seconds in kinds.items()}
            for stage, kinds in timed.seconds.items()
        },
        num_calls=num_calls,
        call_s=call_s,
        timed_s=timed_s,
    )


class _Timed(TorchDispatchMode):
    """Time every operator that reads or writes elements.

    Marks are put around it into the device's queue where it has one, and read after the call: to
    launch each operator and wait for it would add as much to every small one, of which SE has
    many. Elsewhere the device is waited for.
    """

    def __init__(self, place: Place, clock: Clock) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.place, self.clock = place, clock
        self.marks: list[tuple[tuple[str, str], Any, Any]] = []
        self.seconds: defaultdict[str, defaultdict[str, float]] = defaultdict(
            lambda: defaultdict(float)
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = plain_name(func._schema.name)
        if not is_launch(func, name):
            return func(*args, **(kwargs or {}))
        where = self.place.stage, kind_of(name, in_se=self.place.in_se)
        if self.clock.mark:
            first = self.clock.mark()
            out = func(*args, **(kwargs or {}))
            self.marks.append((where, first, self.clock.mark()))
            return out
        begin = self.clock.read()
        out = func(*args, **(kwargs or {}))
        self._add(where, self.clock.read() - begin)
        return out

    def collect(self) -> None:
        """Read the marks of a call, the device waited for once."""
        self.clock.synchronize()
        for where, first, last in self.marks:
            assert self.clock.between is not None
            self._add(where, self.clock.between(first, last))
        self.marks.clear()

    def _add(self, where: tuple[str, str], seconds: float) -> None:
        stage, kind = where
        self.seconds[stage][kind] += seconds
