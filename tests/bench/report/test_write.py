"""A report as a whole: complete, repeatable, harmless."""

import csv
import io
import os

import numpy as np
import pytest
import record_factory as make

from bench.errors import UserError
from bench.report.page.formats import count
from bench.report.page.tables.main_table import MAIN_DEFINITIONS
from bench.report.table.rows import DEFINITIONS
from bench.report.write import render


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return make.write_example(tmp_path_factory.mktemp("records"), num_test=400)


@pytest.fixture(scope="module")
def rendered(example, tmp_path_factory):
    return render([example], tmp_path_factory.mktemp("out"))


def read_csv(rendered):
    path = next(file for file in rendered.files if file.name == "results.csv")
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_report_holds_markdown_csv_and_both_kinds_of_charts(rendered):
    """Every file a reader expects is there."""
    names = {file.name for file in rendered.files}
    for chart in ("throughput", "latency", "macs", "params", "training-time"):
        assert {f"accuracy-{chart}.png", f"accuracy-{chart}.svg"} <= names
    assert {"report.md", "results.csv", "learning-curves.png", "learning-curves.svg"} <= names


def test_rendering_twice_gives_the_same_bytes(example, rendered, tmp_path):
    """Nothing in a report depends on when, or how often, it is rendered."""
    again = render([example], tmp_path)
    for first, second in zip(rendered.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_csv_has_a_row_for_each_model_setting(rendered):
    """Three models, two stems, throughput and latency: twelve rows with documented columns."""
    rows = read_csv(rendered)
    assert len(rows) == 12
    assert list(rows[0]) == list(DEFINITIONS)
    row = next(r for r in rows if r["model"] == "se_resnet50" and r["batch_size"] == "64")
    assert (row["stem"], row["se"], row["depth"], row["reduction"]) == ("cifar", "True", "50", "16")
    assert int(row["flops"]) == 2 * int(row["macs"]) == 2_600_689_664
    assert float(row["top1_low"]) < float(row["top1"]) < float(row["top1_high"])
    assert float(row["throughput_low"]) < 64 / float(row["latency_ms"]) * 1e3
    assert float(row["throughput_high"]) > 64 / float(row["latency_ms"]) * 1e3


def test_macs_are_told_without_a_profile(tmp_path):
    """A training's record is enough for them: in the table, the CSV and the chart."""
    for seed, macs in ((0, None), (1, 555_422_720)):  # a record of before they were kept
        make.write_run(tmp_path / str(seed), spec=make.model("resnet18"), seed=seed, macs=macs)
    rendered = render([tmp_path], tmp_path / "out")
    (row,) = read_csv(rendered)
    assert (row["macs"], row["flops"]) == ("555422720", "1110845440")
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| 555.42 | 1,110.85 |" in report
    assert "accuracy-macs.png" in {file.name for file in rendered.files}


def test_main_table_has_the_columns_of_the_readme(rendered):
    """report.md shows one line per model and stem, with value and interval."""
    text = next(file for file in rendered.files if file.name == "report.md").read_text()
    assert "| " + " | ".join(MAIN_DEFINITIONS) + " |" in text
    line = next(x for x in text.splitlines() if x.startswith("| se_resnet50 | cifar | r=16 "))
    assert len(line.split(" | ")) == len(MAIN_DEFINITIONS)
    assert "| Shapes (5,000 + 400) | quick | 3 | cpu, fp32 | 1 (exploratory) |" in line
    assert "1,300.34 | 2,600.69" in line


def test_hostile_names_do_no_harm(tmp_path):
    """Names with pipes, newlines, formulas and paths are shown, and only the report is written."""
    evil = "=cmd|' /C calc'!A0\n../../x <img src=x onerror=alert(1)> $\\frac$"
    records, out = tmp_path / "records", tmp_path / "deep" / "out"
    data = make.dataset(label=evil, num_test=200)
    other = make.dataset(label="../escape", digest="b" * 64, num_test=200)
    env = make.environment(device_name=evil, cpu_model=evil)
    for number, facts in enumerate((data, other)):
        spec = make.model(evil, stem="cifar")
        hits = np.arange(200) % (number + 2) > 0
        make.write_run(records / str(number), hits, spec=spec, data=facts, env=env)
    profile = make.profile_record(make.model(evil), env=env, runtime="a|b", id="p")
    make.write_profile(records, profile)
    rendered = render([records], out)
    written = {p for p in tmp_path.rglob("*") if p.is_file() and records not in p.parents}
    assert written == set(rendered.files)
    assert {p.parent for p in written} == {out}
    text = (out / "report.md").read_text()
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert "<img" not in "".join(prose)
    table = [line for line in text.splitlines() if line.startswith("| =cmd")]
    assert table
    assert all(r"=cmd\|'" in line for line in table)
    assert all(row["model"].startswith("'=cmd") for row in read_csv(rendered))


def test_broken_records_are_counted_and_the_rest_is_rendered(tmp_path):
    """What was set aside is named in the report with its reason."""
    make.write_run(tmp_path / "records" / "a")
    (tmp_path / "records" / "torn.json").write_text("{")
    rendered = render([tmp_path / "records"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert len(rendered.study.set_aside) == 1
    assert "1 set aside" in text
    assert "torn.json | not strict JSON" in text


def test_profiles_alone_make_a_report(tmp_path):
    """Without a trained model the cost is shown, accuracy left empty."""
    make.write_profile(tmp_path / "records", make.profile_record())
    rendered = render([tmp_path / "records"], tmp_path / "out")
    assert read_csv(rendered)[0]["top1"] == ""
    assert "| resnet50 | cifar | – | – |" in (tmp_path / "out" / "report.md").read_text()


def test_a_combination_that_cannot_run_is_a_row_with_its_reason(tmp_path):
    """Unsupported rows stay visible."""
    record = make.profile_record(
        status="unsupported", reason="fp16 has no kernel | here", timing=None, precision="fp16"
    )
    make.write_profile(tmp_path / "records", record)
    rendered = render([tmp_path / "records"], tmp_path / "out")
    assert read_csv(rendered)[0]["status"] == "unsupported"
    assert r"unsupported: fp16 has no kernel \| here" in (tmp_path / "out/report.md").read_text()


def test_nothing_is_written_without_records(tmp_path):
    """An empty folder leaves no output folder behind."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        render([tmp_path / "empty"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_seeds_give_a_t_interval(tmp_path):
    """Mean and Student's t over three seeds: 80, 81, 82 % is 81 ± 2.48."""
    for seed, correct in enumerate((800, 810, 820)):
        make.write_run(tmp_path / "records" / str(seed), seed=seed, correct=correct)
    row = read_csv(render([tmp_path / "records"], tmp_path / "out"))[0]
    assert row["seeds"] == "3"
    assert float(row["top1"]) == pytest.approx(0.81)
    assert float(row["top1_seed_sd"]) == pytest.approx(0.01)
    assert float(row["top1_seeds_high"]) - 0.81 == pytest.approx(0.02484, abs=1e-5)
    # Wilson's of 810 of 1,000 images, which knows nothing of seeds.
    assert float(row["top1_high"]) == pytest.approx(0.83310, abs=1e-4)


def test_parquet_holds_the_same_table(example, rendered, tmp_path):
    """With the extra installed, results.parquet has the rows and columns of results.csv."""
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    import pandas as pd

    file = next(file for file in rendered.files if file.name == "results.parquet")
    table = pd.read_parquet(file)
    assert list(table.columns) == list(DEFINITIONS)
    assert table["macs"].tolist() == [int(row["macs"]) for row in read_csv(rendered)]
    assert table["top1"].dtype == "Float64"


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_drawn(example, tmp_path):
    """The message names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write to .*file/report"):
        render([example], tmp_path / "file" / "report")


def test_one_run_is_not_counted_in_the_plural():
    """The report's first lines read as a person would write them."""
    assert (count(1, "run"), count(0, "run"), count(2000, "run")) == (
        "1 run",
        "0 runs",
        "2,000 runs",
    )


def test_charts_of_a_former_report_go_and_foreign_files_stay(tmp_path):
    """The second report has no profile: its charts of speed are gone, a picture of ours is not."""
    make.write_example(tmp_path / "records", num_test=100)
    out = tmp_path / "out"
    before = {file.name for file in render([tmp_path / "records"], out).files}
    (out / "mine.png").write_bytes(b"mine")
    (out / "accuracy-latency.txt").write_text("mine")
    after = {file.name for file in render([tmp_path / "records" / "runs"], out).files}
    gone = {
        f"accuracy-{cost}.{kind}"
        for cost in ("latency", "throughput", "macs")
        for kind in ("png", "svg")
    }
    assert before - after == gone
    assert {path.name for path in out.iterdir()} == after | {"mine.png", "accuracy-latency.txt"}


@pytest.mark.parametrize(
    "former",
    [
        "# Another report\n\n![mine](mine.png)\n",
        "# senet-bench report\n\nSee ![mine](mine.png)\n",
        "# senet-bench report\n\n![out](../mine.png)\n![dots](..png)\n",
        "\udc80",
    ],
)
def test_only_what_a_report_of_ours_shows_is_removed(tmp_path, former):
    """Images of another report.md, in running text or in another folder are left alone."""
    make.write_run(tmp_path / "records" / "a")
    out = tmp_path / "out"
    out.mkdir()
    kept = (out / "mine.png", tmp_path / "mine.png")
    for path in kept:
        path.write_bytes(b"mine")
    (out / "report.md").write_text(former, errors="surrogateescape")
    render([tmp_path / "records"], out)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("name", ["report.md", "report.html", "results.csv"])
def test_where_a_file_cannot_be_replaced_all_stay_as_they_were(tmp_path, name):
    """A folder lies where one of them is to go."""
    make.write_run(tmp_path / "a" / "records")
    out = tmp_path / "out"
    for file in render([tmp_path / "a"], out).files:
        file.write_text("old")
    (out / name).unlink()
    (out / name).mkdir()
    with pytest.raises(UserError, match=f"cannot write .*{name}: Is a directory"):
        render([tmp_path / "a"], out)
    assert {file.read_text() for file in out.iterdir() if file.is_file()} == {"old"}


def test_a_pipe_in_the_place_of_a_former_report_is_not_waited_for(tmp_path):
    make.write_run(tmp_path / "records" / "a")
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "report.md")
    render([tmp_path / "records"], tmp_path / "out")
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").startswith("# ")
