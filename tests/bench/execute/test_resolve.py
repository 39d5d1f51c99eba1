"""Seeds only as many as the question needs: the same looks here and after any interruption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import record_factory as make

from bench.errors import UserError
from bench.events import JobFailed, Looked
from bench.execute.resolve import Question, questions, until_decided
from bench.record.seeds import SEEDS, read_seeds
from bench.report.read.load import load
from bench.report.read.study import study
from bench.report.write import render
from bench.spec.run import ModelSpec, RunSpec

PLAIN, SE, WIDE = (make.model(name, "cifar") for name in ("resnet18", "se_resnet18", "resnet50"))


class Lab:
    """Trains models as accurate as ``skill`` says, with the luck of the seed; counts trainings."""

    def __init__(self, runs: Path, skill: dict[ModelSpec, float], luck: float = 0.002) -> None:
        self.runs, self.skill, self.luck = runs, skill, luck
        self.trained: list[tuple[str, int]] = []
        self.looked: list[Looked] = []
        self.breaks: set[tuple[str, int]] = set()

    def spec(self, model: ModelSpec, seed: int) -> RunSpec:
        return make.run_record(model, seed=seed).spec

    def train(self, specs: Sequence[RunSpec]) -> list[JobFailed]:
        failed = []
        for spec in specs:
            name, folder = (spec.model.name, spec.seed), self.runs / spec.folder_name()
            if (folder / "run.json").exists():
                continue
            if name in self.breaks:
                failed.append(JobFailed(spec.folder_name(), "broken", ""))
                continue
            self.trained.append(name)
            level = self.skill[spec.model]
            draw = np.random.default_rng([spec.seed, len(spec.model.name)])
            level += self.luck * draw.standard_normal()
            hits = np.linspace(0, 1, 10_000) + 0.01 * draw.standard_normal(10_000) < level
            make.write_run(folder, hits, spec=spec.model, seed=spec.seed)
        return failed

    def ask(self, wanted: float, most: int, seeds: Sequence[int] = (0,)) -> list[JobFailed]:
        self.trained.clear()
        return until_decided(
            Question(wanted, most), list(self.skill), seeds, self.spec, self.runs, self.train,
            lambda event: self.looked.append(event) if isinstance(event, Looked) else None,
        )[1]  # fmt: skip


def test_a_plain_difference_is_decided_at_the_first_look(tmp_path: Path) -> None:
    """Five points, seeds 0.2 apart: three seeds a model, and the report says so."""
    lab = Lab(tmp_path / "runs", {PLAIN: 0.80, SE: 0.85})
    assert lab.ask(0.005, 12) == []
    record = read_seeds(tmp_path / "runs" / SEEDS)
    (one,) = record.asked
    assert (one.first, one.second) == (PLAIN, SE)
    assert (one.stopped, one.num_seeds, record.looks) == ("decided", 3, (3,))
    assert one.estimate == pytest.approx(0.05, abs=0.005)
    assert len(lab.trained) == 6
    render([tmp_path / "runs"], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "by 3 seeds each; its sign is decided" in text
    assert "at most 12 a model" in text


def test_seeds_are_added_until_the_interval_is_narrow(tmp_path: Path) -> None:
    """Equal models, one point of luck: more looks, both models alike, until ± 1.6 points."""
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.80}, luck=0.01)
    assert lab.ask(0.016, 40) == []
    record = read_seeds(tmp_path / SEEDS)
    (one,) = record.asked
    assert one.stopped == "narrow"
    assert one.half_width is not None
    assert one.half_width <= 0.016
    assert record.looks[:2] == (3, 5)
    assert one.num_seeds == record.looks[-1]
    assert {name for name, _ in lab.trained} == {"resnet18", "se_resnet18"}
    assert len(lab.trained) == 2 * one.num_seeds


def test_only_models_of_open_questions_get_more_seeds(tmp_path: Path) -> None:
    """No attention differs between the others: they have what the first look has."""
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.80, WIDE: 0.9}, luck=0.01)
    lab.ask(1e-5, 5)
    (one,) = read_seeds(tmp_path / SEEDS).asked
    assert (one.stopped, one.num_seeds) == ("most seeds", 5)
    assert sorted(seed for name, seed in lab.trained if name == "resnet50") == [0, 1, 2]
    assert [(look.num_seeds, look.num_runs) for look in lab.looked] == [(3, 9), (5, 4)]


def test_the_same_command_again_tells_the_same_and_trains_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.80}, luck=0.01)
    lab.ask(0.016, 40)
    before = (tmp_path / SEEDS).read_bytes()
    lab.ask(0.016, 40)
    assert lab.trained == []
    assert (tmp_path / SEEDS).read_bytes() == before


def test_what_failed_ends_the_looks_and_is_done_by_the_next_command(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.80}, luck=0.01)
    lab.breaks = {("se_resnet18", 4)}
    assert [job.reason for job in lab.ask(1e-5, 5)] == ["broken"]
    assert read_seeds(tmp_path / SEEDS).looks == (3,)
    lab.breaks.clear()
    assert lab.ask(1e-5, 5) == []
    assert lab.trained == [("se_resnet18", 4)]
    assert read_seeds(tmp_path / SEEDS).looks == (3, 5)


def test_looks_of_an_earlier_command_are_counted_by_a_later_one(tmp_path: Path) -> None:
    """A narrower question goes on behind the looks that were taken; one wider forgets none."""
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.80}, luck=0.01)
    lab.ask(1e-5, 4)
    lab.ask(1e-5, 9)
    assert read_seeds(tmp_path / SEEDS).looks == (3, 4, 6, 9)
    lab.ask(0.5, 9)
    record = read_seeds(tmp_path / SEEDS)
    assert (record.looks, record.asked[0].stopped, record.asked[0].num_seeds) == (
        (3, 4, 6, 9), "narrow", 3,
    )  # fmt: skip
    with pytest.raises(UserError, match="--max-seeds 8 is fewer than the 9 of a look"):
        lab.ask(0.5, 8)
    with pytest.raises(UserError, match="first looked at with 3 seeds a model, not 4"):
        lab.ask(0.5, 9, seeds=(0, 1, 2, 3))


def test_p_values_and_intervals_of_the_report_count_the_looks(tmp_path: Path) -> None:
    """Two looks: 4 π² / 6 times the p-value that seeds settled before would have."""
    lab = Lab(tmp_path / "runs", {PLAIN: 0.80, SE: 0.81}, luck=0.01)
    lab.ask(1e-5, 5)
    found = render([tmp_path / "runs"], tmp_path / "o").findings
    (tmp_path / "runs" / SEEDS).unlink()
    alone = render([tmp_path / "runs"], tmp_path / "o").findings
    one, other = found.pairs.pairs[0].difference, alone.pairs.pairs[0].difference
    assert one is not None
    assert other is not None
    assert one.p == pytest.approx(min(1.0, (other.p or 0) * 4 * np.pi**2 / 6))
    assert one.interval.low < other.interval.low
    assert found.gains[0].difference.p == one.p
    assert one.method.endswith("at look 2")


def test_a_seeds_record_that_is_damaged_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.85})
    lab.ask(0.005, 12)
    (tmp_path / SEEDS).write_text('{"kind": "seeds"}')
    with pytest.raises(UserError, match=r"seeds.json cannot be read: wanted: is missing"):
        lab.ask(0.005, 12)
    assert [aside.path for aside in study(load([tmp_path])).set_aside] == [str(tmp_path / SEEDS)]


def test_models_that_only_guess_are_not_compared(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {PLAIN: 0.80, SE: 0.1}, luck=0.0)
    lab.ask(0.005, 12)
    (one,) = read_seeds(tmp_path / SEEDS).asked
    assert (one.stopped, one.why) == ("not comparable", "no better than guessing")


def test_the_questions_are_attention_against_none_or_every_pair() -> None:
    assert questions([PLAIN, SE, WIDE]) == [(PLAIN, SE)]
    assert questions([PLAIN, WIDE]) == [(PLAIN, WIDE)]
    assert questions([PLAIN]) == []
