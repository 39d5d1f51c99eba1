"""CUDA graphs: capturing a step or a forward pass, to be replayed with one launch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def capture_step(step: Callable[[], None], device: str, num_warmups: int = 3) -> Callable[[], None]:
    """Record a step that reads and writes the same memory each time as a CUDA graph.

    Returns what replays it. The step is taken ``num_warmups`` times before, on a stream of its
    own as recording demands, and its effects are the caller's to undo; recording takes none.
    """
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(num_warmups):
            step()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(torch.device(device).index or 0)):
        step()
    return graph.replay


@functools.cache
def _pool(index: int) -> Any:
    """Return the memory that all graphs of a GPU share, in place of as much again for each.

    What a graph computes on the way may lie where another's lies, since they are replayed one
    after the other; so a result must be read before another graph is replayed.
    """
    return torch.cuda.graph_pool_handle()


def capture_graph(
    call: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Record one call as a CUDA graph; return what replays it on an input of the same shape."""
    static_input, outputs = example.clone(), list[torch.Tensor]()

    def step() -> None:
        outputs[:] = [call(static_input)]

    replay_step = capture_step(step, str(example.device))

    def replay(images: torch.Tensor) -> torch.Tensor:
        static_input.copy_(images)
        replay_step()
        return outputs[0]

    return replay
