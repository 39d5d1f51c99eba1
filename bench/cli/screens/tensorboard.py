"""``--log tensorboard``: what each epoch gave, as scalars in the run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.events import EmitNews, Event, JobNews

LOGS = ("tensorboard",)
FOLDER = "tensorboard"


def check(log: str | None) -> None:
    """Raise UserError for a log that there is not, and for one that is not installed."""
    from bench.errors import UserError, unknown

    if log is None:
        return
    if log not in LOGS:
        raise unknown("log", log, LOGS)
    if find_spec("tensorboard") is None:
        raise UserError(
            "--log tensorboard needs tensorboard: pip install 'senet-bench[tensorboard]'"
        )


@contextlib.contextmanager
def logged(
    screen: contextlib.AbstractContextManager[Any], log: str | None, runs: Path
) -> Iterator[Any]:
    """Yield what ``screen`` does, which also writes the events of runs below ``runs`` to a log."""
    with screen as emit:
        if log is None:
            yield emit
            return
        writers: dict[str, Any] = {}
        try:
            yield _telling(emit, runs, writers)
        finally:
            for writer in writers.values():
                writer.close()


def _telling(emit: EmitNews, runs: Path, writers: dict[str, Any]) -> Callable[[Any], None]:
    """Return what hands events on and notes them; of jobs at the same time each has a writer."""
    from torch.utils.tensorboard import SummaryWriter

    from bench import events as ev

    def note(name: str, event: Event) -> None:
        match event:
            case ev.RunStarted(spec=spec, epochs_done=done):
                if name in writers:
                    writers.pop(name).close()
                # What an earlier process told of epochs that are done again is forgotten.
                writers[name] = SummaryWriter(
                    str(runs / spec.folder_name() / FOLDER), purge_step=done + 1
                )
            case ev.EpochDone(facts) if name in writers:
                scalars = {
                    "loss": facts.loss,
                    "top-1/train": facts.top1,
                    "top-1/validation": facts.val_top1,
                    "learning rate": facts.lr,
                    "img/s": facts.throughput,
                }
                for tag, value in scalars.items():
                    if value is not None:
                        writers[name].add_scalar(tag, value, facts.epoch)
                writers[name].flush()
            case ev.RunDone(record=record) if name in writers:
                writer = writers.pop(name)
                if record.test is not None:
                    writer.add_scalar("top-1/test", record.test.top1, record.spec.recipe.epochs)
                writer.close()
            case _:
                pass

    def tell(event: Event | JobNews) -> None:
        emit(event)
        if isinstance(event, ev.JobNews):
            note(event.name, event.event)
        else:
            note("", event)

    return tell
