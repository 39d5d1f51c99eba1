"""How long a report takes: report.md alone, and with tables, page and charts.

``pytest tests/perf/test_report.py --benchmark-enable`` renders 1,000 records with the predictions
of 10,000 images each; without benchmarks a small set shows that the same calls work.
"""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import record_factory as make

from bench.spec.recipe import Recipe

NAMES = [f"{se}resnet{depth}" for se in ("", "se_") for depth in (18, 34, 50, 101, 152)]
RUNTIMES = ("eager", "compile", "channels_last", "compile_frozen", "cudagraph")


def write_many(folder, recipes, seeds, settings, num_test):
    """Write runs of 20 models by recipe and seed, and their profiles by runtime and batch."""
    draw = np.random.default_rng(0)
    ease = draw.uniform(size=num_test)
    models = [make.model(name, stem) for name in NAMES for stem in ("cifar", "imagenet")]
    for spec, recipe, seed in itertools.product(models, range(recipes), range(seeds)):
        level = 0.8 + 0.01 * recipe + 0.05 * (spec.stem == "cifar") + 0.01 * bool(spec.reduction)
        make.write_run(
            folder / "runs" / f"{spec.name}-{spec.stem}-{recipe}-{seed}",
            ease + 0.1 * draw.standard_normal(num_test) < level,
            spec=spec,
            seed=seed,
            recipe=Recipe(name=f"recipe{recipe}", epochs=100),
        )
    for number, (spec, runtime, batch) in enumerate(itertools.product(models, RUNTIMES, settings)):
        scenario = "single_stream" if batch == 1 else "offline"
        record = make.profile_record(
            spec,
            call_s=0.01 * batch,
            batch_size=batch,
            scenario=scenario,
            runtime=runtime,
            seed=number,
            id=f"p{number}",
        )
        make.write_profile(folder / "profiles", record)


@pytest.fixture(scope="module")
def records(tmp_path_factory, request):
    """Return a folder of 1,000 records, or of 100 when nothing is measured."""
    folder = tmp_path_factory.mktemp("records")
    if request.config.getoption("--benchmark-enable"):
        write_many(folder, recipes=5, seeds=5, settings=(1, 8, 64, 128, 256), num_test=10_000)
    else:
        write_many(folder, recipes=2, seeds=1, settings=(64,), num_test=500)
    return folder


MARKDOWN = """
import sys
from pathlib import Path
from bench.report.page.contents import contents
from bench.report.derive.findings import findings
from bench.report.read.load import load
from bench.report.page.markdown import render
from bench.report.read.study import study
Path(sys.argv[2]).write_text(render(contents(findings(study(load([Path(sys.argv[1])]))))))
"""
EVERYTHING = """
import resource, sys
from pathlib import Path
from bench.report.write import render
render([Path(sys.argv[1])], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB at the peak")
"""


@pytest.mark.parametrize("what", ["report.md alone", "everything"])
def test_report_from_a_fresh_process(benchmark, records, tmp_path, what):
    """A new interpreter reads all records and writes; imports are part of the time."""
    script = MARKDOWN if what == "report.md alone" else EVERYTHING
    command = [sys.executable, "-c", script, str(records), str(tmp_path / "out")]

    def render():
        return subprocess.run(command, check=True, capture_output=True, text=True)

    done = benchmark.pedantic(render, rounds=3 if benchmark.enabled else 1, iterations=1)
    benchmark.extra_info["memory"] = done.stdout.strip()
    assert (tmp_path / "out").exists()
