"""Break the statistics, the report and the timing on purpose, and print what no test notices.

Each mutant is a fault that somebody could make: one text replaced by another in a copy of the
code, against the tests that should see it. Prints a line for each and exits with 1 if one survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("bench", "senet", "tests", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Mutant:
    """A fault: in ``file`` the text ``right`` becomes ``wrong``; ``tests`` should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


STATS, DERIVE, PAGE = "tests/bench/stats", "tests/bench/report/derive", "tests/bench/report/page"
FAULTS = f"{DERIVE}/test_faults.py"
MUTANTS = (
    # What is claimed of models.
    Mutant("Holm dropped", "bench/stats/accuracy.py",
           "holm([found.p or 0.0 for found in told])", "[found.p or 0.0 for found in told]",
           FAULTS),
    Mutant("pairs are no family", "bench/report/derive/pairs.py",
           "tests = accuracy.corrected([p.difference for p in fair], margin)",
           "tests = [accuracy.corrected([p.difference], margin)[0] for p in fair]", FAULTS),
    Mutant("effects are no family", "bench/report/derive/attribution.py",
           "tests = accuracy.corrected([effect.top1 for effect in effects], margin)",
           "tests = [accuracy.corrected([e.top1], margin)[0] for e in effects]", FAULTS),
    Mutant("gaps are no family", "bench/report/derive/attribution.py",
           "tests = accuracy.corrected([gap.total for gap in gaps], None)",
           "tests = [accuracy.corrected([gap.total], None)[0] for gap in gaps]", FAULTS),
    Mutant("the gate's accuracies are no family", "bench/report/derive/speed/gate.py",
           "tests = accuracy.corrected([measured for _, measured in compared], margin)",
           "tests = [accuracy.corrected([d], margin)[0] for _, d in compared]", FAULTS),
    Mutant("Holm dropped in the gate's times", "bench/report/derive/speed/gate.py",
           "holm([r.p for r in ratios if r.p is not None])",
           "[r.p for r in ratios if r.p is not None]", f"{DERIVE}/speed/test_gate.py"),
    Mutant("not resolved called the same", "bench/stats/decide.py",
           'else "not resolved"', 'else "same"', f"{STATS}/test_decide.py"),
    Mutant("equivalence tested on one side", "bench/stats/decide.py",
           "inside = margin - abs(estimate)", "inside = margin - estimate",
           f"{STATS}/test_decide.py"),
    Mutant("one-seed arms have no luck", "bench/stats/accuracy.py",
           "scale = sum(w**2 / count", "scale = sum(w**2 * (count > 1) / count",
           f"{STATS}/test_luck.py"),
    Mutant("pooled sd taken as known exactly", "bench/stats/accuracy.py",
           "squares = 0.0 if math.isinf(luck.freedom) else variance**2 / luck.freedom",
           "squares = 0.0", f"{STATS}/test_luck.py"),
    Mutant("p-value without any luck known", "bench/stats/accuracy.py",
           "p = None if luck is None else two_sided(estimate, error, freedom)",
           "p = two_sided(estimate, error, freedom)", DERIVE),
    Mutant("images' noise counted twice", "bench/stats/accuracy.py",
           "image_variance = max(0.0, raw - seeds.noise)", "image_variance = raw",
           f"{STATS}/test_accuracy.py"),
    Mutant("study-wide sd ignored", "bench/report/derive/seeds.py",
           "return known or self.by_data.get(cells[0].digest) or self.stated",
           "return self.stated", f"{DERIVE}/test_pairs.py"),
    Mutant("sd stated by the user ignored", "bench/report/derive/seeds.py",
           "or self.stated", "", f"{DERIVE}/test_pairs.py"),
    Mutant("luck pooled over models that guess", "bench/report/derive/seeds.py",
           "if cell.seed_spread is not None and cell.has_learnt:",
           "if cell.seed_spread is not None:", FAULTS),
    Mutant("models that guess are compared", "bench/report/derive/pairs.py",
           "if cell.top1 is not None and cell.has_learnt:", "if cell.top1 is not None:",
           f"{DERIVE}/test_pairs.py"),
    Mutant("exploratory only if all arms have one seed", "bench/stats/accuracy.py",
           "exploratory = any(len(arm) < 2 for arm in arms)",
           "exploratory = all(len(arm) < 2 for arm in arms)", STATS),
    Mutant("one-seed mark removed", "bench/report/page/tables/main_table.py",
           '"1 (exploratory)" if len(cell.runs) == 1 else str(len(cell.runs))',
           "str(len(cell.runs))", "tests/bench/report/test_write.py"),
    Mutant("stated sd not told", "bench/report/page/wording.py",
           'return [f"one seed, resting on the stated seed sd of {sd}"]', "return []",
           f"{DERIVE}/test_pairs.py"),
    Mutant("seeds needed at the level of one test", "bench/stats/decide.py",
           "level = LEVEL / max(1, family)", "level = LEVEL", f"{STATS}/test_decide.py"),
    Mutant("seeds needed without the images' part", "bench/report/derive/pairs.py",
           "family, found.image_error)", "family)", f"{DERIVE}/test_pairs.py"),
    Mutant("better said together with seeds needed", "bench/report/derive/pairs.py",
           ' or pair.finding != "not resolved":', ":", f"{DERIVE}/test_pairs.py"),
    Mutant("share of the gap inverted", "bench/report/page/wording.py",
           "share = part.interval.estimate / total if total",
           "share = total / part.interval.estimate if total", f"{DERIVE}/test_attribution.py"),
    Mutant("a gap that is not resolved is split", "bench/report/derive/attribution.py",
           "[gap if gap.resolved else replace(gap, shares=()) for gap in judged]", "judged",
           f"{DERIVE}/test_attribution.py"),
    Mutant("seed luck dropped from fronts", "bench/report/derive/pareto.py",
           "scale[:, None] * known.beyond_images", "scale[:, None] * 0.0", FAULTS),
    Mutant("cost noise dropped from fronts", "bench/report/derive/pareto.py",
           "return np.asarray(means + _errors(axis, cells) * noise)",
           "return np.asarray(means + 0 * noise)", FAULTS),
    Mutant("points per cent of no cost", "bench/report/derive/pareto.py",
           "if added > max(LEAST_STEP, 1.96 * math.hypot(errors[before], errors[after])):",
           "if added > 0:", FAULTS),
    Mutant("ECE over ten bins", "bench/stats/accuracy.py", "NUM_BINS = 15", "NUM_BINS = 10",
           FAULTS),
    # What is claimed of times.
    Mutant("one process decides", "bench/report/derive/speed/ratios.py",
           "if self.replicated is None:\n            return \"not resolved\"",
           "if self.replicated is None:\n            return \"more\"", FAULTS),
    Mutant("two processes decide", "bench/stats/replicates.py", "FEWEST = 3", "FEWEST = 2",
           f"{DERIVE}/speed/test_gate.py"),
    Mutant("sides that took no turns decide", "bench/stats/replicates.py",
           "            return None\n        base, new", "            pass\n        base, new",
           f"{STATS}/test_replicates.py"),
    Mutant("floor of the gate ignored", "bench/report/derive/speed/gate.py",
           "p if beyond else None", "p", FAULTS),
    Mutant("a busy machine decides", "bench/report/derive/speed/gate.py",
           "if starved(old) or starved(row):", "if False:", f"{DERIVE}/speed/test_gate.py"),
    Mutant("starved sittings pooled with good ones", "bench/report/read/study.py",
           "kept += good or rows", "kept += rows", FAULTS),
    Mutant("flags dropped from conditions", "bench/report/derive/conditions.py",
           '**{f"flag {name}": value for name, value in env.flags.items()},', "", FAULTS),
    Mutant("uncommitted changes dropped from conditions", "bench/report/derive/conditions.py",
           "        CHANGES: env.dirty,\n", "", FAULTS),
    Mutant("ratios without a guard", "bench/report/derive/speed/ratios.py",
           " or not may_meet(row, base, ignoring):", ":", FAULTS),
    Mutant("Winsorised error without n - 1", "bench/stats/times.py",
           "math.sqrt((n - 1) / (h * (h - 1)))", "math.sqrt(n) / h", f"{STATS}/test_times.py"),
    Mutant("likeness of neighbours ignored", "bench/stats/times.py",
           "r = min(0.95, max(0.0, (lag1 + 1 / n) / (1 - 4 / n)))", "r = 0.0",
           f"{STATS}/test_planted.py"),
    Mutant("p95 told as p90", "bench/report/read/timings.py",
           "quantile(everything, 0.9)", "quantile(everything, 0.95)", FAULTS),
    Mutant("p99 of ten samples", "bench/report/read/timings.py",
           "MIN_SAMPLES_P99 = 1000", "MIN_SAMPLES_P99 = 10", FAULTS),
    Mutant("mean for median of epochs", "bench/report/read/trained.py",
           "return median(times) if times else None",
           "return sum(times) / len(times) if times else None", FAULTS),
    Mutant("smallest for largest peak memory", "bench/report/read/profiled.py",
           "return max(peaks, default=None)", "return min(peaks, default=None)", FAULTS),
    Mutant("oldest profile taken", "bench/report/derive/headline.py",
           "key=lambda row: (row.created_at, row.key))\n    return",
           "key=lambda row: (row.created_at, row.key), reverse=True)\n    return", FAULTS),
    Mutant("a threshold at chance", "bench/report/derive/time_to.py",
           "ABOVE_CHANCE = 0.05", "ABOVE_CHANCE = -1.0", FAULTS),
    # How time is taken.
    Mutant("no synchronise at the end of an epoch", "bench/train/loop.py",
           "        self.synchronize()\n        self.training.wall_s",
           "        self.training.wall_s", "tests/bench/train/test_loop.py"),
    Mutant("no synchronise at a block's end", "bench/measure/clock.py",
           "        self.synchronize()\n", "", "tests/bench/measure/test_timing.py"),
    Mutant("denormals left as a session put them", "bench/measure/prepare.py",
           "numerics.flush_denormals()", "pass", "tests/bench/measure/test_profile.py"),
    Mutant("unstable rows called noisy", "bench/measure/timing.py",
           "spread > UNSTABLE", "spread > 99", "tests/bench/measure/test_timing.py"),
)  # fmt: skip


def survives(mutant: Mutant, copy: Path) -> bool:
    """Tell whether the tests pass although the fault is there; LookupError if its text is gone."""
    path = copy / mutant.file
    whole = path.read_text(encoding="utf-8")
    if mutant.right not in whole:
        raise LookupError(f"{mutant.file} has no {mutant.right!r}")
    path.write_text(whole.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        return passes(mutant.tests, copy)
    finally:
        path.write_text(whole, encoding="utf-8")


def passes(tests: str, copy: Path) -> bool:
    """Run tests in the copy; LookupError where they cannot run at all."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise LookupError(f"pytest ended with {done.returncode}: {done.stdout[-400:]}")
    return done.returncode == 0


def main() -> int:
    """Try every mutant whose name holds the words given; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose name holds one of these")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    alive = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "copy"
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, _below(copy, name))
        for tests in dict.fromkeys(mutant.tests for mutant in chosen):
            if not passes(tests, copy):
                raise LookupError(f"{tests} fails without any fault")
        for mutant in chosen:
            left = survives(mutant, copy)
            alive += [mutant.name] * left
            print(f"{'SURVIVES' if left else 'killed':<9} {mutant.name}", flush=True)  # noqa: T201
    print(f"{len(chosen) - len(alive)} of {len(chosen)} killed")  # noqa: T201
    return 1 if alive else 0


def _below(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / name


if __name__ == "__main__":
    sys.exit(main())
