"""The report command."""

import pytest
import record_factory as make
import typer
from typer.testing import CliRunner

from bench.cli.report import report
from bench.errors import UserError

app = typer.Typer()
app.command()(report)


def test_report_writes_and_prints_a_summary(tmp_path):
    """The models are printed and the files are where --out says."""
    make.write_example(tmp_path / "records", num_test=200)
    result = CliRunner().invoke(app, [str(tmp_path / "records"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "se_resnet50" in result.output
    assert (tmp_path / "out" / "report.md").exists()


def test_default_folders_are_runs_and_profiles(tmp_path, monkeypatch):
    """Without arguments both folders are read and reports/latest is written."""
    make.write_example(tmp_path, num_test=200)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert (
        "6 runs and 12 profiles from runs, profiles"
        in (tmp_path / "reports" / "latest" / "report.md").read_text()
    )


def test_no_records_is_an_error_that_says_where_it_looked(tmp_path, monkeypatch):
    """Neither folder there, or an empty one: one line, nothing written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder runs or profiles here"):
        CliRunner().invoke(app, [], catch_exceptions=False)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="no usable records in runs"):
        CliRunner().invoke(app, [], catch_exceptions=False)
    assert not (tmp_path / "reports").exists()


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    """--out naming a file is the user's to mend."""
    make.write_run(tmp_path / "records" / "a")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        CliRunner().invoke(
            app,
            [str(tmp_path / "records"), "--out", str(tmp_path / "out")],
            catch_exceptions=False,
        )
    assert (tmp_path / "out").read_text() == "mine"
