"""Comparing two sets of measurements: what changed is found, what cannot be compared is said."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import record_factory as make

from bench.errors import UserError
from bench.record.profile import NoiseFacts
from bench.report.derive.speed import gate
from bench.report.page.tables import gate_tables
from bench.stats.replicates import replicated


def profiles(folder, call_s=0.1, seed=1, **changes):
    """Write one profile; another ``seed`` is another sitting with other noise."""
    record = make.profile_record(call_s=call_s, seed=seed, **changes)
    make.write_profile(folder, record)
    return folder


def changes(base, new, force=False, **wanted):
    return gate.compare(gate.read(base), gate.read(new), gate.Wanted(force=force, **wanted))


@pytest.mark.parametrize(
    ("factor", "verdict", "fails"),
    [(1.0, "same", False), (1.10, "slower", True), (1.03, "slower", False), (0.5, "faster", False)],
)
def test_processes_in_turn_decide(tmp_path, factor, verdict, fails):
    """With 0.5 % between processes 10 % is slower and fails at 5 %, 3 % is slower but passes."""
    base, new = tmp_path / "base", tmp_path / "new"
    make.write_turns(base, new, factor, noise=0.005)
    (change,) = changes(base, new)
    assert change.verdict == verdict
    assert change.interval.estimate == pytest.approx(factor, rel=0.01)
    assert change.regressed(0.05) is fails
    assert 0 < change.floor < 0.02


@pytest.mark.parametrize(("pairs", "in_turns"), [(1, True), (4, True), (5, False)])
def test_what_was_measured_apart_decides_nothing(tmp_path, pairs, in_turns):
    """Twice the time in one process each, in four, or in five after one another: not decided."""
    base, new = tmp_path / "base", tmp_path / "new"
    make.write_turns(base, new, 2.0, pairs=pairs, in_turns=in_turns)
    (change,) = changes(base, new)
    assert (change.verdict, change.regressed(0.0)) == ("not decided", False)
    told = f"{pairs} pairs of processes in turn; 5 are needed"
    assert change.note == (told if in_turns else gate.APART)
    assert change.interval.high == float("inf")


def test_sides_of_which_one_is_always_first_decide_nothing(tmp_path):
    """ABABABAB: what slows a machine down would always be the same side's."""
    for pair in range(4):
        for side, factor in (("base", 1.0), ("new", 1.2)):
            when = f"2026-01-01T00:0{pair}:0{int(side == 'new')}Z"
            own = {"seed": pair, "noise": 0.001, "env": make.environment(started_at=when)}
            profiles(tmp_path / side, 0.1 * factor, **own)
    (change,) = changes(tmp_path / "base", tmp_path / "new")
    assert (change.verdict, change.note) == ("not decided", gate.APART)


@pytest.mark.parametrize(("starved", "verdict"), [(1, "slower"), (3, "not decided")])
def test_a_starved_process_takes_its_pair_alone(tmp_path, starved, verdict):
    """Of six pairs the five others decide; of three the machine was too busy, not apart."""
    base, new = tmp_path / "base", tmp_path / "new"
    make.write_turns(base, new, 1.2, noise=0.003, pairs=6)
    for path in sorted(new.glob("*.json"))[:starved]:
        timing = json.loads(path.read_text())["timing"]
        timing["block_s"] = [50 * seconds for seconds in timing["block_s"]]
        make.damage(path, noise={"other_cpu_share": 0.65}, timing=timing)
    (change,) = changes(base, new)
    assert change.verdict == verdict
    told = f"{6 - starved} pairs of processes in turn, without {starved} of 12 that other work"
    assert told in change.note
    assert ("the machine was too busy" in change.note) is (verdict == "not decided")
    assert change.new == pytest.approx(0.12, rel=0.02)  # of what was not starved
    assert change.doubts == ()


@pytest.mark.parametrize("noise", [0.005, 0.03, 0.15])
def test_identical_code_passes_twenty_jobs(tmp_path, noise):
    """Twenty jobs of three rows, five pairs each, sittings up to 15 % apart: at most one fails.

    With 0.5 % between sittings most rows are found the same; with 15 % none is, and none slower.
    """
    failed, found = 0, Counter()
    for job in range(20):
        base, new = tmp_path / f"base{job}", tmp_path / f"new{job}"
        for row, batch in enumerate((1, 8, 64)):
            make.write_turns(base, new, noise=noise, seed=3 * job + row, batch_size=batch)
        rows = changes(base, new)
        failed += any(change.regressed(0.05) for change in rows)
        found.update(change.verdict for change in rows)
    assert failed <= 1
    assert found["faster"] + found["slower"] <= 3
    assert (found["same"] > 40) is (noise < 0.01)


def test_a_small_change_in_much_noise_is_neither_the_same_nor_a_change(tmp_path):
    """3 % in 10 % of noise between processes is not resolved."""
    make.write_turns(tmp_path / "base", tmp_path / "new", 1.03, noise=0.1)
    (change,) = changes(tmp_path / "base", tmp_path / "new")
    assert change.verdict == "not resolved"


def test_a_busy_machine_decides_nothing(tmp_path):
    """Where other work had two thirds of the cores even twice the time is not decided."""
    busy = NoiseFacts(other_cpu_share=0.65)
    warnings = ("other work used about 65 % of the cores",)
    make.write_turns(tmp_path / "base", tmp_path / "new", 2.0, noise_facts=busy, warnings=warnings)
    (change,) = changes(tmp_path / "base", tmp_path / "new")
    assert change.verdict == "not decided"
    assert "too busy" in change.note
    assert change.doubts == warnings
    assert warnings[0] in gate_tables.markdown([change], 0.05)
    assert gate_tables.annotation(change).count(warnings[0].replace("%", "%25")) == 1


def test_rows_are_judged_as_a_family(tmp_path):
    """A p-value of 0.047 alone is not enough among four rows."""
    base, new = tmp_path / "base", tmp_path / "new"
    logs = np.array([0.0, 0.036, 0.072, 0.108, 0.144])
    for batch, factors in ((8, logs), (16, logs * 0), (32, logs * 0), (64, logs * 0)):
        for pair, log in enumerate(factors):
            for side, factor in ((base, 1.0), (new, float(np.exp(log)))):
                second = int((side == new) != (pair % 2 == 1))
                env = make.environment(started_at=f"2026-01-01T00:0{pair}:0{second}Z")
                own = {"seed": 10 * pair + int(side == new), "batch_size": batch, "noise": 0.0}
                record = make.profile_record(call_s=0.1 * factor, env=env, **own)
                make.write_profile(side, record)
    rows = {change.what.rsplit(" ", 1)[1]: change for change in changes(base, new)}
    assert replicated(np.exp(logs)).p == pytest.approx(0.047, abs=0.003)
    assert rows["8"].verdict == "not resolved"


def test_that_rows_are_the_same_is_judged_as_a_family(tmp_path):
    """A p-value of equivalence of 0.02 alone is not enough among four rows."""
    base, new = tmp_path / "base", tmp_path / "new"
    spread = np.array([0.03, -0.03, 0.05, -0.05, 0.0])
    assert 0.0125 < replicated(np.exp(spread)).p_same(0.05) < 0.05
    verdicts = []
    for batches in ((8,), (8, 16, 32, 64)):
        for batch in batches:
            for pair, log in enumerate(spread):
                for side, factor in ((base, 1.0), (new, float(np.exp(log)))):
                    second = int((side == new) != (pair % 2 == 1))
                    env = make.environment(started_at=f"2026-01-01T00:0{pair}:0{second}Z")
                    own = {"seed": 10 * pair + (side == new), "batch_size": batch, "noise": 0.0}
                    record = make.profile_record(call_s=0.1 * factor, env=env, **own)
                    make.write_profile(side, record)
        rows = {c.what.rsplit(" ", 1)[1]: c for c in changes(base, new)}
        verdicts.append(rows["8"].verdict)
    assert verdicts == ["same", "not resolved"]


def test_another_machine_is_not_compared(tmp_path):
    """The difference is withheld and named; --force gives it with the mark."""
    base, new = tmp_path / "base", tmp_path / "new"
    make.write_turns(base, tmp_path / "rest")
    make.write_turns(tmp_path / "rest", new, 2.0, env={"host": "other", "num_threads": 8})
    (change,) = changes(base, new)
    assert change.verdict == "not comparable"
    assert change.interval is None
    assert [str(m) for m in change.mismatches] == ["host lab / other", "threads 2 / 8"]
    (forced,) = changes(base, new, force=True)
    assert forced.verdict == "slower"
    assert "FORCED: host lab / other" in gate_tables.markdown([forced], 0.05)


def test_another_commit_is_what_a_comparison_is_for(tmp_path):
    """The commit may differ."""
    base = profiles(tmp_path / "base")
    new = profiles(tmp_path / "new", seed=2, env=make.environment(commit="f" * 40, dirty=True))
    assert changes(base, new)[0].mismatches == ()


def test_rows_on_one_side_are_named(tmp_path):
    """A row that is gone or new is neither faster nor slower."""
    base = profiles(tmp_path / "base", batch_size=8)
    profiles(base, batch_size=16)
    new = profiles(tmp_path / "new", batch_size=16, seed=2)
    profiles(new, batch_size=32)
    found = {c.what.rsplit(" ", 1)[1]: c.verdict for c in changes(base, new)}
    assert found == {"8": "gone", "16": "not decided", "32": "new"}


def test_a_changed_count_is_reported_exactly(tmp_path):
    """One more MAC is a change, and growth a regression."""
    base = profiles(tmp_path / "base")
    cost = make.profile_record().cost
    grown = cost.model_copy(update={"macs": cost.macs + 1, "flops": cost.flops + 2})
    new = profiles(tmp_path / "new", seed=2, cost=grown)
    counted = [c for c in changes(base, new) if c.kind == "count"]
    assert [(c.what.split()[0], c.verdict, c.new - c.base) for c in counted] == [
        ("MACs", "changed", 1)
    ]
    assert counted[0].regressed(0.05)


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [(150, 50, "worse"), (50, 150, "better"), (2, 4, "same"), (60, 62, "not resolved")],
)
def test_accuracies_are_compared_on_the_same_images(tmp_path, lost, won, verdict):
    """150 images lost against 50 won is worse; 2 against 4 is the same within a point."""
    before = np.arange(2000) < 1600
    after = before.copy()
    after[:lost] = False
    after[1600 : 1600 + won] = True
    make.write_run(tmp_path / "base" / "a", before)
    make.write_run(tmp_path / "new" / "a", after)
    (alone,) = changes(tmp_path / "base", tmp_path / "new")
    assert (alone.verdict, alone.regressed(0.05)) == ("not decided", False)
    (change,) = changes(tmp_path / "base", tmp_path / "new", seed_sd=0.002, top1_margin=0.01)
    assert (change.kind, change.verdict) == ("accuracy", verdict)
    assert change.interval.estimate == pytest.approx((won - lost) / 2000)
    assert change.regressed(0.05) is (verdict == "worse")


def benchmark_file(path, seconds, node="ci", **stats):
    """Write the part of pytest-benchmark's JSON that is read."""
    entry = {
        "fullname": "tests/perf/test_x.py::test_x",
        "stats": {"median": seconds, "iqr": 0.02 * seconds, "rounds": 25} | stats,
    }
    machine = {"node": node, "cpu": {"brand_raw": "Example"}, "python_version": "3.11.9"}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": [entry]}))
    return path


def test_pytest_benchmark_files_are_compared(tmp_path):
    """1.0 against 1.2 ms is a ratio of 1.2; one process each decides nothing."""
    base = benchmark_file(tmp_path / "a.json", 0.001)
    (change,) = changes(base, benchmark_file(tmp_path / "b.json", 0.0012))
    assert (change.what, change.verdict) == ("tests/perf/test_x.py::test_x", "not decided")
    assert change.interval.estimate == pytest.approx(1.2)
    (other,) = changes(base, benchmark_file(tmp_path / "c.json", 0.001, node="laptop"))
    assert other.verdict == "not comparable"


@pytest.mark.parametrize("machine", [None, {}, {"node": None, "cpu": {"brand_raw": "Example"}}])
def test_two_machines_that_nobody_knows_are_not_one(tmp_path, machine):
    """Without a name on both sides there is nothing to compare, --force or not."""
    for name in ("a.json", "b.json"):
        path = benchmark_file(tmp_path / name, 0.001)
        make.damage(path, machine_info=machine)
    (change,) = changes(tmp_path / "a.json", tmp_path / "b.json")
    assert (change.verdict, change.interval) == ("not comparable", None)
    assert [str(m) for m in change.mismatches] == ["machine unknown / unknown"]


def test_of_a_folder_of_pytest_benchmark_the_newest_file_is_read(tmp_path):
    """As .benchmarks lies there: a folder for each machine, files counted, saved at any time."""
    folder = tmp_path / ".benchmarks"
    for machine, number, day, seconds in (("a", 9, 1, 0.001), ("b", 2, 3, 0.003), ("a", 8, 2, 2)):
        (folder / machine).mkdir(parents=True, exist_ok=True)
        path = benchmark_file(folder / machine / f"000{number}_x.json", seconds)
        make.damage(path, datetime=f"2026-01-0{day}T00:00:00+00:00")
    (folder / "a" / "notes.json").write_text("[1")
    for place, seconds in ((folder, 0.003), (folder / "a", 2)):
        (benchmark,) = gate.read(place).benchmarks
        assert benchmark.seconds.estimate == seconds
    profiles(folder / "a")  # records beside them are not lost
    both = gate.read(folder / "a")
    assert (len(both.benchmarks), len(both.costs)) == (1, 1)


def test_what_pytest_benchmark_writes_is_read(tmp_path):
    """A real file of the installed pytest-benchmark, with its raw data."""
    (tmp_path / "test_speed.py").write_text(
        "def test_sum(benchmark):\n    benchmark.pedantic(sum, args=(range(99),), rounds=9)\n"
    )
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-json", str(out)]
    # Neither the options nor the processes of the tests around it are this one's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    (benchmark,) = gate.read(out).benchmarks
    assert benchmark.name.endswith("test_speed.py::test_sum")
    assert benchmark.seconds.num_samples == 9
    assert benchmark.conditions["node"]


@pytest.mark.parametrize(
    "stats", [{"median": "fast"}, {"median": 0.0}, {"rounds": 0}, {"median": None}, {"data": ["x"]}]
)
def test_a_spoilt_benchmark_file_is_an_error(tmp_path, stats):
    """Numbers that are none name the file."""
    path = benchmark_file(tmp_path / "bad.json", 0.001, **stats)
    with pytest.raises(UserError, match=r"bad\.json is no file of pytest-benchmark"):
        gate.read(path)


def test_summary_and_annotation(tmp_path):
    """Markdown has a line a row, regressions first; the annotation is one workflow command."""
    base, new = tmp_path / "base", tmp_path / "new"
    make.write_turns(base, new, batch_size=8)
    make.write_turns(base, new, 2.0, batch_size=16)
    found = changes(base, new)
    assert gate_tables.summary(found) in ("1 same, 1 slower", "1 slower, 1 same")
    lines = gate_tables.markdown(found, 0.05).splitlines()
    assert "change (95 % CI: times: pairs of processes)" in lines[4]
    assert "batch 16" in lines[6]
    assert "slower" in lines[6]
    slower = next(c for c in found if c.verdict == "slower")
    text = gate_tables.annotation(slower)
    assert text.startswith("::error title=Benchmark regression::resnet50, cifar stem")
    assert "\n" not in text
