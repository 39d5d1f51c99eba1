"""Train as many seeds as the question needs: look, and train more where it is still open.

seeds of the first look ──► differences ──► decided, narrow, hidden by the images, or more seeds

What a look tells is worked out from the records of its seeds alone, however many there are by now.
So the same command goes on where the last one ended, and tells the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, count, islice
from pathlib import Path

from bench.errors import UserError
from bench.events import EmitNews, JobFailed, Looked
from bench.record.seeds import SEEDS, Asked, SeedsRecord, read_seeds, write_seeds
from bench.report.derive.pairs import difference_of
from bench.report.read.load import load
from bench.report.read.models import plain_twin
from bench.report.read.study import study
from bench.report.read.trained import Cell
from bench.spec.run import ModelSpec, RunSpec
from bench.stats.sequential import FIRST, half_width, next_look, step

Runs = Sequence[RunSpec]
Train = Callable[[Runs], list[JobFailed]]


@dataclass(frozen=True)
class Question:
    """Differences are asked to within ± ``wanted`` (a fraction), with ``most_seeds`` a model."""

    wanted: float
    most_seeds: int

    def first(self, seeds: Sequence[int]) -> int:
        """Return with how many seeds a model the first look is made, where ``seeds`` are given."""
        return max(FIRST, len(seeds))

    def seeds(self, given: Sequence[int], number: int) -> tuple[int, ...]:
        """Return the first ``number`` seeds of a model: those given, then the smallest others."""
        return (*given, *islice((n for n in count() if n not in given), number - len(given)))


def until_decided(
    question: Question,
    models: Sequence[ModelSpec],
    seeds: Sequence[int],
    spec_of: Callable[[ModelSpec, int], RunSpec],
    runs: Path,
    train: Train,
    emit: EmitNews,
) -> tuple[list[RunSpec], list[JobFailed]]:
    """Train models with the seeds of each look until every question is settled.

    Returns all runs and what failed, which ends the looks: the same command does it again. Each
    look is recorded in ``runs``. Raises UserError as `looks_of` does, and for a single model.
    """
    asked = [Asked(first=a, second=b, num_seeds=1, stopped="go on") for a, b in questions(models)]
    if not asked:
        raise UserError("--resolve asks how models differ: name two or more")
    former = _former(runs)
    looks = looks_of(question, seeds, runs)
    numbers = question.seeds(seeds, looks[-1])
    done: dict[str, RunSpec] = {}
    for look, num_seeds in enumerate(looks, 1):
        is_open = {m for one in asked if one.stopped == "go on" for m in (one.first, one.second)}
        chosen = [m for m in models if look == 1 or m in is_open]
        wanted = [spec_of(model, seed) for model in chosen for seed in numbers[:num_seeds]]
        new = [spec for spec in wanted if spec.folder_name() not in done]
        emit(Looked(look, num_seeds, sum(one.stopped == "go on" for one in asked), len(new)))
        done |= {spec.folder_name(): spec for spec in new}
        failed = train(new)
        if failed:
            return list(done.values()), failed
        cells = _cells(runs, wanted)
        is_last = num_seeds == looks[-1]
        asked = [
            _look_at(one, cells, question, look, num_seeds, len(asked), is_last)
            if one.stopped == "go on"
            else one
            for one in asked
        ]
        _record(question, looks[: max(look, len(former))], asked, runs)
        if all(one.stopped != "go on" for one in asked):
            break
    return list(done.values()), []


def questions(models: Sequence[ModelSpec]) -> list[tuple[ModelSpec, ModelSpec]]:
    """Return the pairs that matter: each attention against none, or all where there is no such."""
    twins = [(twin, model) for model in models if (twin := plain_twin(model)) in models]
    return [(a, b) for a, b in twins if a is not None] or list(combinations(models, 2))


def _former(runs: Path) -> tuple[int, ...]:
    """Return the seeds a model of the looks that were taken in a folder before."""
    try:
        return read_seeds(runs / SEEDS).looks
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise UserError(f"{runs / SEEDS} cannot be read: {error}") from None


def looks_of(question: Question, seeds: Sequence[int], runs: Path) -> list[int]:
    """Return the seeds a model of all looks: those taken in a folder before, and what follows.

    Raises UserError for looks there that began otherwise, and for too few seeds.
    """
    first = question.first(seeds)
    looks = [*(_former(runs) or [first])]
    if looks[0] != first:
        raise UserError(
            f"{runs} was first looked at with {looks[0]} seeds a model, not {first}; give"
            f" --seeds {looks[0]}, or another folder (--runs)"
        )
    if question.most_seeds < looks[-1]:
        raise UserError(
            f"--max-seeds {question.most_seeds} is fewer than the {looks[-1]} of a look; give"
            f" {looks[-1]} or more"
        )
    while looks[-1] < question.most_seeds:
        looks.append(next_look(looks[-1], question.most_seeds))
    return looks


def _cells(runs: Path, specs: Runs) -> dict[ModelSpec, list[Cell]]:
    """Return how the runs of a look did, by model; several of one are on unlike machines."""
    found: dict[ModelSpec, list[Cell]] = {}
    try:
        loaded = load([runs / spec.folder_name() for spec in specs])
    except UserError:  # every one of them diverged
        return found
    for cell in study(loaded).cells:
        found.setdefault(cell.model, []).append(cell)
    return found


def _look_at(
    one: Asked,
    cells: dict[ModelSpec, list[Cell]],
    question: Question,
    look: int,
    num_seeds: int,
    family: int,
    is_last: bool,
) -> Asked:
    """Return what a look tells of a question."""
    told = one.model_copy(update={"num_seeds": num_seeds})
    pair = [cells.get(model, []) for model in (one.first, one.second)]
    why = next((why for found in pair if (why := _unfit(found, num_seeds))), None)
    if why is not None:
        return told.model_copy(update={"stopped": "not comparable", "why": why})
    (first,), (second,) = pair
    found = difference_of(first, second, None)
    assert found is not None, "every run was tested"
    estimate = found.interval.estimate
    stopped = step(
        estimate, found.error, found.freedom, found.image_error,
        wanted=question.wanted, look=look, family=family,
    )  # fmt: skip
    half = half_width(found.error, found.freedom, look, family)
    return told.model_copy(
        update={
            "stopped": "most seeds" if stopped == "go on" and is_last else stopped,
            "estimate": estimate,
            "half_width": half,
        }
    )


def _unfit(cells: Sequence[Cell], num_seeds: int) -> str | None:
    """Return why the runs of a model are not compared; None if they are."""
    if len(cells) > 1:
        return "its seeds were trained on unlike machines"
    if not cells or len(cells[0].tests) < num_seeds:
        return "a training diverged"
    return None if cells[0].has_learnt else "no better than guessing"


def _record(question: Question, looks: Sequence[int], asked: Sequence[Asked], runs: Path) -> None:
    record = SeedsRecord(
        wanted=question.wanted,
        most_seeds=question.most_seeds,
        looks=tuple(looks),
        asked=tuple(asked),
    )
    write_seeds(runs, record)
