"""What a terminal shows of a training: on lines that are as wide as it is, and marked for what."""

from __future__ import annotations

import io
import re
import time

import pytest
import record_factory as make
from rich.console import Console

from bench.cli.screens import pace as pacing
from bench.cli.screens.live import balanced, facts_lines, live
from bench.cli.screens.pace import Count, Pace
from bench.events import EpochDone, RunStarted, StepDone
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec

RECIPE = Recipe(name="standard-batch_size=32-lr=0.02-schedule=cosine", epochs=100)
SPEC = RunSpec(model=ModelSpec(name="se_resnet50"), data=DataSpec(), recipe=RECIPE)
STARTED = RunStarted(SPEC, params=26_052_874, num_train=50_000, num_steps=391, epochs_done=0)


def epoch(number: int, top1: float = 0.5) -> EpochFacts:
    facts = {"epoch": number, "loss": 1.5, "top1": top1, "lr": 0.1, "val_top1": 0.4}
    return EpochFacts.model_validate(
        facts | {"num_images": 10, "throughput": 23_456.7, "epoch_wall_s": 123.4}
    )


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    """Return a pace of 100 images a second, ten seconds after its first step was told."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made = Pace(STARTED)
    made.advance(1, 1)
    now[0] += 10
    made.advance(1, 1 + 1000 * 391 // 50_000)
    return made


def test_the_pace_is_that_of_the_steps_after_the_first(pace: Pace) -> None:
    """What came before it, such as compiling, is no part of it."""
    assert pace.steps == 7
    assert pace.left_s == pytest.approx((39_100 - 8) * 10 / 7)
    assert pace.throughput == pytest.approx(7 * 50_000 / 391 / 10)


def test_a_forecast_is_made_once_by_the_first_steps(pace: Pace) -> None:
    count = Count(3)
    count.begin()
    told = pace.forecast(count)
    assert told == "  about 15:30 h here, by the first 8 steps; all 3 done in about 46:32 h"
    assert pace.forecast(count) is None
    short = Pace(STARTED)
    assert short.forecast(count) is None  # no step was counted yet


def test_the_time_left_for_all_takes_the_rest_to_be_as_long_as_those_before() -> None:
    count = Count(3, took_s=[30.0], ended=1, began=time.monotonic() - 5)
    assert count.left(5.0) == pytest.approx(5 + 20, abs=0.5)
    assert Count(1, began=0.0).left(5.0) is None
    assert count.left(None) is None


def test_what_stands_below_the_bar_fits_80_columns_and_is_marked(pace: Pace) -> None:
    pace.epochs += [epoch(number) for number in range(1, 60)]
    count = Count(100)
    count.begin()
    last, now = facts_lines(pace, 123 * 2**30, count)
    assert max(len(last), len(now)) <= 80
    assert last.startswith("  last epoch  val top-1 40.0 % ▁")
    assert now.startswith("  now ")
    assert "123.0 GiB RAM" in now
    assert "all 100: ~" in now


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_wraps_and_none_is_a_word_alone(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "FORECAST_AFTER_S", 0.0)
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    with live(console, Count(2)) as emit:
        emit(STARTED)
        for number in range(1, 4):
            emit(StepDone(number, 1))
            emit(StepDone(number, 391))
            emit(EpochDone(epoch(number)))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    shown = [line.rstrip() for line in text.replace("\r", "\n").split("\n")]
    epochs = [line for line in shown if "epoch   3/100" in line]
    assert epochs
    assert all("val" in line and len(line) <= width for line in epochs)
    head = [line for line in shown if "26,052,874" in line or "recipe standard" in line]
    assert head
    assert all(width // 2 < len(line) <= width for line in head)


def test_words_are_put_on_as_few_lines_as_they_need_all_about_as_long() -> None:
    text = "  " + " ".join(["word"] * 17)  # 86 letters: a word alone at 80 columns
    first, second = balanced(text, 80).split("\n")
    assert abs(len(first) - len(second)) <= 6
    assert first.startswith("  word")
    assert balanced(text, 120) == text


def test_a_suite_has_a_line_for_each_job_that_runs_within_80_columns() -> None:
    """Six run; one that failed and is tried again counts as running, not as ended."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from bench.cli.screens.suite_screen import _Live
    from bench.events import JobBegan, JobEnded, JobNews, RunDone, RunStarted, StepDone

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    console = Console(width=80, force_terminal=False, color_system=None, record=True)
    show = _Live(Progress(*columns, console=console), 7)
    specs = [make.run_record(make.model("se_resnet50", "cifar"), seed=n).spec for n in range(6)]
    for spec in specs:
        for event in (JobBegan("far", 1, 0.0), RunStarted(spec, 1, 100, 10, 0), StepDone(1, 5)):
            show(JobNews(spec.folder_name(), event))
    first = specs[0].folder_name()
    show(JobNews(first, JobEnded(1, "out of memory", 1.0)))
    show(JobNews(first, JobBegan("near", 1, 0.0)))
    show.of_all(RunDone(make.run_record(seed=9), "runs", reused=True))
    console.print(show.progress.get_renderable())
    lines = [line for line in console.export_text().splitlines() if line.strip()]
    shown = [line for line in lines if "out of memory" not in line]
    assert len(shown) == 7
    assert "1 ended, 6 run" in shown[0]
    assert sum("epoch 1/" in line for line in shown) == 5
    assert "starting on near" in shown[-1]
    assert all(len(line) <= 80 for line in shown)
