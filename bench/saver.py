"""Save a training now and then, and continue it: the folder's side of `bench.state`."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from bench import checkpoint, distributed, state
from bench.distributed import Group
from bench.errors import UserError
from bench.spec import RunSpec
from bench.state import Training

CHECKPOINT_EVERY_S = 60.0


class Saver:
    """Saves a training, so that at most a minute and one step can be lost.

    Of several processes only the first writes and reads, so that no folder needs to be shared.
    ``facts`` are kept beside the training's state; ``spent_s`` are the seconds that saving took.
    """

    def __init__(self, spec: RunSpec, data_digest: str, folder: Path, group: Group) -> None:
        self.identity = {"run": spec.folder_name(), "data": data_digest}
        self.folder, self.group = folder, group
        self.facts: dict[str, Any] = {}
        self.problems: list[str] = []
        self.spent_s, self.saved_at = 0.0, monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return what the newest whole checkpoint holds, if any; note which were damaged.

        Raises UserError when it is of a training on other images.
        """
        saved, self.problems = distributed.on_first(
            self.group, lambda: checkpoint.load_newest(self.folder, "cpu")
        )
        if saved is not None and saved["identity"] != self.identity:
            raise UserError(f"{self.folder} was being trained on other images")
        return saved

    def restore(self, training: Training, saved: dict[str, Any] | None) -> None:
        """Put a training where it was saved."""
        if saved is not None:
            state.restore(training, saved)
            if not self.group.is_first:
                training.totals.zero_()  # they are in the first one's

    def due(self) -> bool:
        """Say whether a checkpoint should be written after this step."""
        return monotonic() - self.saved_at >= CHECKPOINT_EVERY_S

    def save(self, training: Training, keep: int = checkpoint.KEPT) -> None:
        """Write a checkpoint now, and keep that many of the newest."""
        begin = perf_counter()
        if self.group.is_first:
            content = state.state(training) | self.facts | {"identity": self.identity}
            checkpoint.save(self.folder, content, keep=keep)
        self.spent_s += perf_counter() - begin
        self.saved_at = monotonic()
