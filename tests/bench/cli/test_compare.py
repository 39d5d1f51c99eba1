"""The compare command and its exit codes."""

import json
from pathlib import Path

import pytest
import record_factory as make
import typer
from typer.testing import CliRunner

from bench.cli.compare import compare
from bench.errors import UserError
from bench.execute import take_turns
from bench.execute.take_turns import Turns

app = typer.Typer()
app.command()(compare)


@pytest.fixture
def folders(tmp_path):
    """Return a base and an equal and a slower folder of records, all of them taking turns."""
    make.write_turns(tmp_path / "base", tmp_path / "same", noise=0.005)
    make.write_turns(tmp_path / "base", tmp_path / "slow", 2.0, noise=0.005)
    return tmp_path


def invoke(*arguments, **kwargs):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **kwargs)


def test_equal_measurements_pass_the_gate(folders):
    """Exit 0 and the verdict on screen."""
    result = invoke(folders / "base", folders / "same", "--fail-on", "5%")
    assert result.exit_code == 0, result.output
    assert "1 same" in result.output


def test_a_regression_fails_the_gate(folders):
    """Twice the time exits 1 with --fail-on 5%, and 0 without."""
    result = invoke(folders / "base", folders / "slow", "--fail-on", "5%")
    assert result.exit_code == 1
    assert "1 row regressed" in result.stderr
    assert invoke(folders / "base", folders / "slow").exit_code == 0
    assert invoke(folders / "slow", folders / "base", "--fail-on", "5%").exit_code == 0


def test_github_gets_a_summary_and_an_annotation(folders, monkeypatch, tmp_path):
    """The table is appended to what the job has written already."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = invoke(folders / "base", folders / "slow", "--fail-on", "5%", "--github")
    assert result.exit_code == 1
    assert summary.read_text().startswith("before\n## Benchmark comparison")
    assert "::error title=Benchmark regression::" in result.stdout


def test_github_without_a_job_is_an_error(folders, monkeypatch):
    """--github says which variable is missing."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with pytest.raises(UserError, match="GITHUB_STEP_SUMMARY"):
        invoke(folders / "base", folders / "same", "--github", catch_exceptions=False)


def test_json_is_alone_on_stdout(folders):
    """--json prints a list of rows that another program can read."""
    result = invoke(folders / "base", folders / "slow", "--json", "--fail-on", "5%")
    (row,) = json.loads(result.stdout)
    assert (row["verdict"], row["regression"]) == ("slower", True)
    assert row["low"] < row["change"] < row["high"]


@pytest.mark.parametrize("text", ["5", "five%", "-1%", "nan%", "%", "inf%"])
def test_a_threshold_that_is_no_percentage_is_refused(folders, text):
    """--fail-on names what it takes."""
    with pytest.raises(UserError, match="takes a percentage such as 5%"):
        invoke(folders / "base", folders / "same", f"--fail-on={text}", catch_exceptions=False)


def test_a_gate_that_compared_nothing_does_not_pass(folders, tmp_path):
    """Rows from another machine alone are an error with --fail-on, not a success."""
    record = make.profile_record(env=make.environment(host="other"))
    make.write_profile(tmp_path / "other", record)
    with pytest.raises(UserError, match="no row could be compared"):
        invoke(folders / "base", tmp_path / "other", "--fail-on", "5%", catch_exceptions=False)
    assert invoke(folders / "base", tmp_path / "other").exit_code == 0


def test_what_is_not_decided_passes_with_a_warning_and_fails_when_strict(folders, tmp_path):
    """Measured apart: exit 0 with a warning that says what to do, 3 with --strict."""
    make.write_profile(tmp_path / "apart", make.profile_record(call_s=0.2, seed=9))
    sides = (folders / "base", tmp_path / "apart", "--fail-on", "5%")
    result = invoke(*sides)
    assert result.exit_code == 0
    assert "warning: 1 row not decided: measured apart" in result.stderr
    assert "compare --measure" in result.stderr
    assert invoke(*sides, "--strict").exit_code == 3
    assert invoke(folders / "base", folders / "same", "--strict").exit_code == 0


def test_what_is_missing_in_new_is_told_and_fails_when_strict(tmp_path):
    """A test that is no longer there is no test that passed."""
    stats = {"median": 0.01, "iqr": 0.0001, "rounds": 20}
    for name, tests in (("base.json", "ab"), ("new.json", "a"), ("both.json", "ab")):
        entries = [{"fullname": f"test_{one}", "stats": stats} for one in tests]
        facts = {"machine_info": {"node": "ci"}, "benchmarks": entries}
        (tmp_path / name).write_text(json.dumps(facts))
    result = invoke(tmp_path / "base.json", tmp_path / "new.json", "--fail-on", "5%")
    assert result.exit_code == 0
    assert "warning: 1 row of BASE missing in NEW: test_b" in result.stderr
    assert invoke(tmp_path / "base.json", tmp_path / "new.json", "--strict").exit_code == 3
    whole = invoke(tmp_path / "base.json", tmp_path / "both.json")
    assert "missing" not in whole.stderr


def test_missing_rows_alone_fail_when_strict(folders):
    """Everything else is decided; what is gone is not."""
    make.write_profile(folders / "base", make.profile_record(batch_size=8))
    result = invoke(folders / "base", folders / "same", "--strict")
    assert result.exit_code == 3
    assert "missing in NEW: resnet50" in result.stderr


def test_missing_folders_are_named(folders, tmp_path):
    """A folder that is not there is an error."""
    with pytest.raises(UserError, match="nowhere is not there"):
        invoke(folders / "base", tmp_path / "nowhere", catch_exceptions=False)


def test_running_out_of_time_is_told_wherever_the_rows_are(tmp_path, monkeypatch):
    """After three of five pairs: in the table, the counts, the job's summary and the JSON."""

    def measured(base, new, what, out, **limits):
        make.write_turns(out / "base", out / "new", pairs=3)
        return Turns(3, 0, out_of_time=True)

    monkeypatch.setattr(take_turns, "measure_in_turns", measured)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    told = "out of time after 3 of 5 pairs of processes"
    for number, form in enumerate(("--github", "--json")):
        sides = (Path(__file__).parents[3],) * 2
        out = ("--measure", "--out", tmp_path / str(number), "--timeout", "9")
        result = invoke(*sides, *out, form)
        assert result.exit_code == 0, result.output
        assert told in result.stderr
        if form == "--json":
            (row,) = json.loads(result.stdout)
            assert (row["verdict"], row["doubts"]) == ("not decided", [told])
        else:
            assert f"1 not decided; {told}" in " ".join(result.stdout.split())
    assert told in (tmp_path / "summary.md").read_text()
