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
    Mutant("pairs are no part of the family", "bench/report/derive/findings.py",
           "for p in pairs.pairs if not p.mismatches]", "for p in pairs.pairs[:0]]", FAULTS),
    Mutant("effects are no part of the family", "bench/report/derive/findings.py",
           "for one in causes for e in one.effects]", "for one in causes for e in one.effects[:0]]",
           FAULTS),
    Mutant("gaps of many models are not judged", "bench/report/derive/findings.py",
           "for one in causes for gap in one.gaps]", "for one in causes for gap in one.gaps[:0]]",
           FAULTS),
    Mutant("gains are judged alone", "bench/report/derive/findings.py",
           "p_family=own.p_family", "p_family=gain.difference.p", f"{DERIVE}/test_gains.py"),
    Mutant("a test of two cells counted twice", "bench/report/derive/findings.py",
           'asked = "" if of_two else', 'asked = "" if False else', FAULTS),
    Mutant("the gate's accuracies are no family", "bench/report/derive/speed/gate.py",
           "tests = accuracy.corrected([measured for _, measured in compared], margin)",
           "tests = [accuracy.corrected([d], margin)[0] for _, d in compared]", FAULTS),
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
           "others = self.by_data.get(digest)", "others = None", FAULTS),
    Mutant("sd stated by the user ignored", "bench/report/derive/seeds.py",
           "return self.stated if others is None", "return None if others is None",
           f"{DERIVE}/test_pairs.py"),
    Mutant("luck of other recipes not said to be", "bench/report/derive/seeds.py",
           "replace(others, elsewhere=True)", "others", FAULTS),
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
           'return f"one seed, resting on the stated seed sd of {sd}"', 'return ""',
           f"{DERIVE}/test_pairs.py"),
    Mutant("seeds needed at the level of one test", "bench/stats/decide.py",
           "level = LEVEL / max(1, family)", "level = LEVEL", f"{STATS}/test_decide.py"),
    Mutant("seeds needed without the images' part", "bench/report/derive/pairs.py",
           "family, found.image_error)", "family)", f"{DERIVE}/test_pairs.py"),
    Mutant("better said together with seeds needed", "bench/report/derive/pairs.py",
           ' or pair.finding != "not resolved":', ":", f"{DERIVE}/test_pairs.py"),
    Mutant("share of the gap inverted", "bench/stats/accuracy.py",
           "part.interval.estimate / whole.interval.estimate",
           "whole.interval.estimate / part.interval.estimate", f"{DERIVE}/test_attribution.py"),
    Mutant("a share's t is that of the whole", "bench/report/derive/attribution.py",
           "share_of(*both, total, off.freedom)", "share_of(*both, total, total.freedom)",
           f"{DERIVE}/test_attribution.py"),
    Mutant("what holds within a sitting averaged", "bench/report/derive/attribution.py",
           "ratio.interval if ratio.replicated else", "ratio.interval if True else",
           f"{DERIVE}/test_attribution.py"),
    Mutant("a rate's interval is that of one of its sittings", "bench/report/read/timings.py",
           "if len(processes) == 1:\n        return rate_interval(every)",
           "if True:\n        return rate_interval(every)",
           "tests/bench/report/read/test_timings.py"),
    Mutant("losses by the gate are no family", "bench/report/derive/deployments.py",
           "judged = corrected([loss.extra for loss in losses], None)",
           "judged = [(loss.extra.p, None) for loss in losses]", f"{DERIVE}/test_deployments.py"),
    Mutant("the luck of training left out of the gate's losses",
           "bench/report/derive/deployments.py", "sd=luck.sd / math.sqrt(2)", "sd=0.0",
           f"{DERIVE}/test_deployments.py"),
    Mutant("what guesses is on a front of deployments", "bench/report/derive/deployments.py",
           ' == "infer" and one.has_learnt:', ' == "infer":', f"{DERIVE}/test_deployments.py"),
    Mutant("networks that guess lose by their gate", "bench/report/derive/deployments.py",
           " if one.network_has_learnt]", "]",
           f"{DERIVE}/test_deployments.py"),
    Mutant("fronts of deployments without a guard", "bench/report/derive/deployments.py",
           "alike = map(_alike, groups.values())", "alike = groups.values()",
           f"{DERIVE}/test_deployments.py"),
    Mutant("races without a guard", "bench/report/derive/time_to.py",
           "repr((accuracy_conditions(cell), training_conditions(cell)))",
           "repr(accuracy_conditions(cell))", f"{DERIVE}/test_time_to.py"),
    Mutant("a target at chance", "bench/report/derive/time_to.py",
           "level is not None and level >= least]", "level is not None]",
           f"{DERIVE}/test_time_to.py"),
    Mutant("prices of epochs without a guard", "bench/report/derive/gains.py",
           "and epochs[1] and alike:", "and epochs[1]:", f"{DERIVE}/test_gains.py"),
    Mutant("times of training without a guard", "bench/report/derive/speed/axes.py",
           "groups[repr(training_conditions(cell))]", 'groups[""]', f"{DERIVE}/test_time_to.py"),
    Mutant("overconfidence taken for guessing", "bench/stats/accuracy.py",
           "share * (1 - chance) < 2 * chance * (1 - share)", "True", f"{STATS}/test_decide.py"),
    Mutant("what a seed sd is from said in every line", "bench/report/page/verdict.py",
           'text = text.replace(note, "one seed")', "pass", FAULTS),
    Mutant("that time ran out not told", "bench/cli/compare.py",
           "    if early:", "    if False:", "tests/bench/cli/test_compare.py"),
    Mutant("one sitting not told on a terminal", "bench/report/page/tables/main_table.py",
           'return [*told, "one sitting"] if once else told', "return told",
           f"{PAGE}/test_terminal.py"),
    Mutant("times of one sitting among those of several", "bench/report/page/sections.py",
           "if s.ratio.is_within is within]", "if not within]", FAULTS),
    Mutant("what an interval of costs covers not told", "bench/report/page/sections.py",
           'if ends else ""', 'if False else ""', FAULTS),
    Mutant("share without what it has in common with the whole", "bench/stats/accuracy.py",
           "shared = (of_part + of_whole - rest.error**2) / 2", "shared = 0.0",
           f"{STATS}/test_accuracy.py"),
    Mutant("a gap that is not resolved is split", "bench/report/derive/findings.py",
           "gap if gap.resolved else replace(gap, shares=())", "gap",
           f"{DERIVE}/test_attribution.py"),
    Mutant("images left out where predictions are missing", "bench/stats/accuracy.py",
           "variance = seeds.variance + images", "variance = seeds.variance",
           "tests/bench/report/read/test_timings.py"),
    Mutant("nothing said where nothing was published", "bench/report/page/verdict.py",
           'return "; no published figure is known of these models on these data"', 'return ""',
           FAULTS),
    Mutant("published figures of the best model alone", "bench/report/page/verdict.py",
           "_published(here, found)", "_published([cell], found)", FAULTS),
    Mutant("taken without a chance worth it", "bench/report/page/wording.py",
           "choice.probability >= 0.5", "True", FAULTS),
    Mutant("seed luck dropped from fronts", "bench/report/derive/pareto.py",
           "scale[:, None] * known.beyond_images", "scale[:, None] * 0.0", FAULTS),
    Mutant("cost noise dropped from fronts", "bench/report/derive/pareto.py",
           "return np.asarray(burden + errors * noise)",
           "return np.asarray(burden + 0 * noise)", FAULTS),
    Mutant("unknown cost noise taken as none", "bench/report/derive/pareto.py",
           "math.inf if error is None else error", "error or 0.0", f"{DERIVE}/test_pareto.py"),
    Mutant("the noise of one sitting taken for that of all", "bench/report/derive/speed/axes.py",
           "known = sittings > 1 and not starved(row)", "known = not starved(row)",
           f"{DERIVE}/test_pareto.py"),
    Mutant("starved costs on a front", "bench/report/derive/speed/axes.py",
           "known = sittings > 1 and not starved(row)", "known = sittings > 1",
           f"{DERIVE}/test_pareto.py"),
    Mutant("one training has no noise", "bench/report/derive/speed/axes.py",
           "= geometric_interval(totals)", "= _exact(sum(totals) / len(totals))",
           f"{DERIVE}/test_pareto.py"),
    Mutant("one reading of pages has no noise", "bench/report/derive/speed/axes.py",
           "if memory_is_counted(row):", "if True:", f"{DERIVE}/test_pareto.py"),
    Mutant("deployments' unknown cost noise taken as none", "bench/report/derive/deployments.py",
           "withheld, drawn = unknown_noise(errors) or ", "withheld, drawn = ",
           f"{DERIVE}/test_deployments.py"),
    Mutant("what does not fit the budget may be the best", "bench/report/derive/pareto.py",
           "wins = np.where(fits, accuracies, -np.inf).argmax(axis=1)",
           "wins = accuracies.argmax(axis=1)", f"{DERIVE}/test_pareto.py"),
    Mutant("whether a choice fits not drawn", "bench/report/derive/pareto.py",
           "drawn[1] <= limit)", "drawn[1] <= np.inf)", FAULTS),
    Mutant("a choice that does not fit counts", "bench/report/derive/pareto.py",
           "(fits[:, best] & (wins == best))", "(wins == best)", f"{DERIVE}/test_pareto.py"),
    Mutant("budgets of a throughput from the loosest on", "bench/report/derive/pareto.py",
           "budgets if axis.less_is_better else budgets[::-1]", "budgets",
           f"{DERIVE}/test_pareto.py"),
    Mutant("points per cent of no cost", "bench/report/derive/pareto.py",
           "if added > max(LEAST_STEP, 1.96 * math.hypot(errors[before], errors[after])):",
           "if added > 0:", FAULTS),
    Mutant("ECE over ten bins", "bench/stats/accuracy.py", "NUM_BINS = 15", "NUM_BINS = 10",
           FAULTS),
    # What is claimed of times.
    Mutant("one process decides", "bench/report/derive/speed/ratios.py",
           "if self.replicated is None:\n            return \"not resolved\"",
           "if self.replicated is None:\n            return \"more\"", FAULTS),
    Mutant("four sittings decide", "bench/stats/times.py", "FEWEST = 5", "FEWEST = 4",
           f"{FAULTS} {DERIVE}/speed/test_gate.py"),
    Mutant("the number of sittings not asked for", "bench/report/derive/speed/ratios.py",
           "    if few:", "    if False:", FAULTS),
    Mutant("the number of pairs not asked for", "bench/report/derive/speed/gate.py",
           "if few or floor is None:", "if floor is None:", f"{DERIVE}/speed/test_gate.py"),
    Mutant("a row of many may have no noise", "bench/stats/replicates.py",
           "LEAST_SPREAD = 2 / 3", "LEAST_SPREAD = 0", f"{STATS}/test_replicates.py"),
    Mutant("sides that took no turns decide", "bench/stats/replicates.py",
           "any(one.is_new == two.is_new for one, two in pairs) or ", "",
           f"{STATS}/test_replicates.py"),
    Mutant("one side that is always first decides", "bench/stats/replicates.py",
           " or any(map(eq, firsts, firsts[1:]))", "", f"{STATS}/test_replicates.py"),
    Mutant("pairs with a starved process count", "bench/stats/replicates.py",
           "if not any(turn.starved for turn in pair)", "", f"{DERIVE}/speed/test_gate.py"),
    Mutant("a starved process in the floor", "bench/stats/replicates.py",
           " and not (one.starved or two.starved)", "", f"{STATS}/test_replicates.py"),
    Mutant("floor of the gate ignored", "bench/report/derive/speed/gate.py",
           "p if beyond else None", "p", FAULTS),
    Mutant("a busy machine decides", "bench/report/derive/speed/gate.py",
           "timing.call_s.estimate, profile.starved))", "timing.call_s.estimate))",
           f"{DERIVE}/speed/test_gate.py"),
    Mutant("a starved process called apart", "bench/report/derive/speed/gate.py",
           "keep_starved=True", "keep_starved=False", f"{DERIVE}/speed/test_gate.py"),
    Mutant("starved sittings pooled with good ones", "bench/report/read/study.py",
           "fed = costs if keep_starved else [row.fed for row in costs]", "fed = costs", FAULTS),
    Mutant("a starved row is slower", "bench/report/derive/speed/ratios.py",
           "hungry = starved(row) or starved(base)", "hungry = False", FAULTS),
    Mutant("speeds are no family", "bench/stats/replicates.py",
           "differ = holm([ratio.p or 0.0 for ratio in wider])",
           "differ = [ratio.p or 0.0 for ratio in wider]", FAULTS),
    Mutant("that speeds are the same is no family", "bench/stats/replicates.py",
           "same = holm([ratio.p_same(margin) or 0.0 for ratio in wider])",
           "same = [ratio.p_same(margin) or 0.0 for ratio in wider]", FAULTS),
    Mutant("the family of speeds not used", "bench/report/derive/findings.py",
           "zip(ratios, corrected(list(ratios.values())), strict=True)",
           "zip(ratios, list(ratios.values()), strict=True)", FAULTS),
    Mutant("floor of speed ratios ignored", "bench/report/derive/speed/ratios.py",
           "self.p if beyond else None", "self.p", FAULTS),
    Mutant("the noise of a cost not told", "bench/report/page/wording.py",
           "if found.floor is not None:\n        notes", "if False:\n        notes", FAULTS),
    Mutant("what disturbed a cost not told", "bench/report/page/verdict.py",
           "{cost_factor(cost.ratio)}{notes}", "{cost_factor(cost.ratio)}", FAULTS),
    Mutant("decided costs skipped", "bench/report/derive/speed/attention_tax.py",
           "return decided, len(cost.runtimes)", "return len(cost.runtimes), decided", FAULTS),
    Mutant("impossible factors printed bare", "bench/report/page/formats.py",
           "WIDE = 4.0", "WIDE = 1e9", FAULTS),
    Mutant("missing tests pass without a word", "bench/cli/compare.py",
           'if change.verdict == "gone"]', 'if change.verdict == ""]',
           "tests/bench/cli/test_compare.py"),
    Mutant("unknown machines are one", "bench/report/derive/speed/gate.py",
           "if not (old.conditions and row.conditions):", "if False:",
           f"{DERIVE}/speed/test_gate.py"),
    Mutant("oldest file of benchmarks read", "bench/report/read/pytest_json.py",
           "max(found, key=_when", "min(found, key=_when", f"{DERIVE}/speed/test_gate.py"),
    Mutant("attention not told first among what is suggested", "bench/report/page/verdict.py",
           'return sorted(pairs, key=lambda p: p.factors != ("attention",))', "return pairs",
           FAULTS),
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
