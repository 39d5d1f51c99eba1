"""The profile command, from arguments to tables, JSON and records."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import senet
from bench.cli.app import app
from bench.errors import UserError
from bench.events import Profiling, RowDone
from bench.execute import jobs, process
from bench.machine import noise
from bench.measure import profile
from bench.measure.resources import breakdown, roofline
from bench.record import files
from bench.record.profile import ProfileRecord
from bench.record.read_write import read_record

QUICK = ("--max-seconds", "0.02", "--no-memory", "--no-charts", "--device", "cpu")


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure ceilings by small work, and write into a folder of the test."""
    monkeypatch.setitem(roofline.MATMUL_SIZES, "cpu", (64,))
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(noise, "GLANCE_S", 0.0)
    monkeypatch.setattr(breakdown, "BUDGET_S", 0.0)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["profile", *arguments])


def records(folder: str = "profiles") -> list[ProfileRecord]:
    found = [read_record(path) for path in Path(folder).glob("*.json")]
    assert all(isinstance(record, ProfileRecord) for record in found)
    return [record for record in found if isinstance(record, ProfileRecord)]


def test_every_row_is_printed_and_kept(tiny_model: str) -> None:
    """Two batch sizes: three rows (batch 1 has two scenarios), tables, and a file each."""
    result = invoke(tiny_model, "--batch-size", "1,4", *QUICK)
    assert result.exit_code == 0, result.output
    assert "Without a clock, one image" in result.stdout
    assert "Use of the machine" in result.stdout
    assert "3 records in profiles" in result.stdout
    assert sorted((r.batch_size, r.scenario) for r in records()) == [
        (1, "offline"),
        (1, "single_stream"),
        (4, "offline"),
    ]
    assert "[1/2] building tiny" in result.stderr


def test_the_time_limit_holds_for_single_calls_too(tiny_model: str) -> None:
    """--max-seconds is the most of timing any row, whichever its scenario."""
    result = invoke(tiny_model, "--batch-size", "1", *QUICK)
    assert result.exit_code == 0, result.output
    limits = {record.scenario: record.spec.single_stream_s for record in records()}
    assert limits == {"offline": 0.02, "single_stream": 0.02}


def test_charts_that_cannot_be_written_are_a_warning(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the last record: tables and JSON are shown all the same."""

    def full(folder: Path, written: dict[str, bytes]) -> None:
        raise UserError(f"cannot write {folder / min(written)}: No space left on device")

    monkeypatch.setattr(files, "write_set", full)
    monkeypatch.setattr(jobs, "write_record", lambda path, record: None)
    quick = [word for word in QUICK if word != "--no-charts"]
    result = invoke(tiny_model, "--batch-size", "4", "--json", *quick)
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["rows"]) == 1
    assert "warning: cannot write profiles/roofline.png: No space left" in result.stderr


def test_json_is_alone_on_stdout(tiny_model: str) -> None:
    """Progress is on stderr; stdout parses, and its records are those in the files."""
    result = invoke(tiny_model, "--batch-size", "4", "--json", *QUICK)
    found = json.loads(result.stdout)
    (row,) = found["rows"]
    assert row["flops"] == 2 * row["macs"] > 0
    assert row["throughput"] > 0
    assert row["latency_p99_ms"] is None
    assert row["records"] == [record.model_dump(mode="json") for record in records()]


def test_classes_and_image_size_follow_the_data_set(tiny_model: str, tmp_path: Path) -> None:
    """CIFAR-100 has 100 classes, 20 coarse ones; a folder has as many as it has folders."""

    def classes(*arguments: str) -> int:
        result = invoke(tiny_model, *arguments, "--batch-size", "2", "--json", *QUICK)
        return int(json.loads(result.stdout)["rows"][0]["num_classes"])

    for name in ("cat", "dog", "eel"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
    assert classes("--dataset", "cifar100") == 100
    assert classes("--dataset", "cifar100", "--labels", "coarse") == 20
    assert classes("--dataset", "folder", "--data-dir", str(tmp_path / "images")) == 3
    assert classes("--num-classes", "7") == 7


def test_runtimes_that_cannot_run_are_rows_with_reasons(tiny_model: str) -> None:
    """The row and its reason are printed; the command succeeds, since eager was measured."""
    result = invoke(tiny_model, "--runtime", "eager,cudagraph", "--batch-size", "4", *QUICK)
    assert result.exit_code == 0, result.output
    assert "unsupported" in result.stdout
    assert "CUDA graphs need a CUDA GPU, not cpu" in result.stdout


def test_nothing_measured_is_exit_code_2(tiny_model: str) -> None:
    """All rows unsupported: the tables with the reasons, an error, and exit code 2."""
    result = invoke(tiny_model, "--runtime", "cudagraph", "--batch-size", "4", *QUICK)
    assert result.exit_code == 2
    assert "error: none of the rows could be measured" in result.stderr
    assert [record.status for record in records()] == ["unsupported"]


def test_interrupting_keeps_the_finished_rows(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second group: the first group's rows are printed and kept, exit code 130."""
    whole = profile.profile_group

    def interrupted(session: Any, group: Any, number: int) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return whole(session, group, number)

    monkeypatch.setattr(profile, "profile_group", interrupted)
    result = invoke(tiny_model, "--batch-size", "1,4", *QUICK)
    assert result.exit_code == 130
    assert "interrupted; 2 finished rows are kept in profiles" in result.stderr
    assert "2 records in profiles" in result.stdout
    assert len(records()) == 2


def test_price_and_reconciliation(tiny_model: str) -> None:
    """A price gives the cost of a million images; the counters' totals are taken apart."""
    arguments = ("--batch-size", "4", "--price-per-hour", "3.60", "--reconcile", "--json")
    found = json.loads(invoke(tiny_model, *arguments, *QUICK).stdout)
    (row,) = found["rows"]
    assert row["price_per_million"] == pytest.approx(3.6 / 3600 / row["throughput"] * 1e6)
    (counters,) = found["reconciliation"].values()
    assert {c["counter"] for c in counters} >= {"this project", "torch.utils.flop_counter"}
    assert [c["unexplained"] for c in counters if c["counter"] == "this project"] == [0]
    text = invoke(tiny_model, *arguments[:-1], *QUICK).stdout
    assert "$/M img" in text
    assert "How counters differ: tiny" in text


def test_seconds_are_accounted_for(tiny_model: str) -> None:
    """Timed, warm-up and the rest add up to what passed since the process began."""
    result = invoke(tiny_model, "--batch-size", "4", "--json", *QUICK)
    seconds = json.loads(result.stdout)["seconds"]
    (record,) = records()
    assert record.timing is not None
    assert record.breakdown is not None
    operators = sum(s for kinds in record.breakdown.seconds.values() for s in kinds.values())
    one_by_one = record.breakdown.timed_s
    assert one_by_one >= record.breakdown.num_calls * operators
    assert record.machine is not None
    assert record.machine.timed_s > 0
    timed = sum(record.timing.block_s) + one_by_one + record.machine.timed_s
    assert seconds["timed"] == pytest.approx(timed)
    assert seconds["warmup"] == pytest.approx(record.timing.warmup_s + record.timing.first_call_s)
    parts = seconds["timed"] + seconds["warmup"] + seconds["outside"]
    assert seconds["total"] == pytest.approx(parts)
    assert "s neither timed nor warm-up" in invoke(tiny_model, "--batch-size", "4", *QUICK).stdout


def test_se_options_are_for_the_se_models_among_others(tiny_model: str) -> None:
    """A plain model beside an SE model is profiled as it is; alone it is refused (below)."""
    arguments = ("--reduction", "8", "--se-divisor", "8", "--json", "--batch-size", "2")
    found = json.loads(invoke("se_resnet18", tiny_model, *arguments, *QUICK).stdout)
    se = [(row["model"], row["reduction"], row["se_divisor"]) for row in found["rows"]]
    assert se == [("se_resnet18", 8, 8), (tiny_model, None, None)]


def test_help_fills_the_screen() -> None:
    """Paragraphs are broken where the screen ends, not where the source's lines do."""
    result = CliRunner().invoke(app, ["profile", "--help"], env={"COLUMNS": "140"})
    assert "so that their ratios hold although the machine drifts. Each row" in result.stdout
    narrow = CliRunner().invoke(app, ["profile", "--help"], env={"COLUMNS": "80"})
    examples = [line for line in narrow.stdout.splitlines() if "   senet-bench profile " in line]
    assert len(examples) == 5
    assert examples[-1].rstrip().endswith("-1a2b3c4d")  # no example is broken in two


def test_charts_are_drawn(tiny_model: str) -> None:
    """The roofline and where the time goes, as PNG and SVG beside the records."""
    quick = [word for word in QUICK if word != "--no-charts"]
    result = invoke(tiny_model, "--batch-size", "4", *quick)
    assert result.exit_code == 0, result.output
    for name in ("roofline", "where-time-goes"):
        assert f"chart: profiles/{name}.png" in result.stdout
        assert (Path("profiles") / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (Path("profiles") / f"{name}.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet51",), "unknown model 'resnet51'"),
        (("resnet18", "--runtime", "fast"), "unknown runtime 'fast'; choose from: eager"),
        (("resnet18", "--precision", "fp8"), "error: --precision: should be 'fp32'"),
        (("resnet18", "--mode", "learn"), "error: --mode: should be 'infer' or 'train'"),
        (("resnet18", "--stem", "wide"), "error: --stem: should be"),
        (("resnet18", "--batch-size", "0"), "--batch-size takes whole numbers from 1 to"),
        (("resnet18", "--batch-size", "-4"), "--batch-size takes whole numbers from 1 to"),
        (("resnet18", "--batch-size", "9" * 4400), "--batch-size takes whole numbers from 1 to"),
        (("resnet18", "--seed", "4294967296"), "error: --seed: should be less than 4294967296"),
        (("resnet18", "--batch-size", "big"), "--batch-size takes whole numbers from 1 to"),
        (("resnet18", "--dataset", "mnist"), "unknown dataset 'mnist'"),
        (("resnet18", "--dataset", "folder"), "needs --data-dir"),
        (("resnet18", "--device", "tpu"), "unknown device 'tpu'"),
        (("resnet18", "--run", "runs/a"), "--run brings its model"),
        (("--run", "runs/none"), "holds no finished run"),
        (("resnet18", "resnet34", "--weights", "a.pt"), "--weights belongs to one model"),
        (("resnet18", "--weights", "a.safetensors"), "a.safetensors"),
        (
            ("resnet18", "--interval", "-1"),
            "error: --interval: should be greater than 0 (got -1.0)",
        ),
        (("resnet18", "--reduction", "8"), "resnet18 has no SE block"),
        (
            ("se_resnet18", "--reduction", "0"),
            "error: reduction must be an integer of at least 1, not 0",
        ),
        (("resnet18", "--out", "file/profiles"), "cannot write to file/profiles"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    """The line names the thing; no traceback, nothing written."""
    Path("file").write_text("not a folder")
    result = invoke(*arguments, "--no-memory")
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.stderr
    assert not Path("profiles").exists()


def test_a_trained_run_is_profiled_with_its_weights(tiny_model: str) -> None:
    """--run takes the model, the weights and the identity of a run's folder."""
    small = ("--epochs", "1", "--train-limit", "100", "--test-limit", "20", "--device", "cpu")
    arguments = ["train", tiny_model, "--dataset", "shapes", "--recipe", "quick", *small]
    trained = CliRunner().invoke(app, arguments)
    assert trained.exit_code == 0, trained.output
    (folder,) = Path("runs").iterdir()
    result = invoke("--run", str(folder), "--batch-size", "4", *QUICK)
    assert result.exit_code == 0, result.output
    (record,) = records()
    assert record.run_id == folder.name
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").unlink()
    result = invoke("--run", str(folder), *QUICK)
    assert result.exit_code == 2
    assert "has no weights: weights.safetensors is not there" in result.stderr
    (folder / "weights.safetensors").write_bytes(weights + b" ")
    result = invoke("--run", str(folder), *QUICK)
    assert result.exit_code == 2
    assert "is not what the run wrote: its SHA-256 differs" in result.stderr


def test_repeats_are_fresh_processes_of_one_series(tmp_path: Path) -> None:
    """Two processes: two sittings of one series, one row, whose interval is over processes."""
    arguments = ("resnet18", "--batch-size", "2", "--repeat", "2", "--json", "--no-breakdown")
    result = invoke(*arguments, "--no-keep-freed", *QUICK)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert row["num_processes"] == 2
    assert len({record.sitting for record in records()}) == 2
    assert len({record.series for record in records()}) == 1
    assert {record.series for record in records()} != {None}
    assert "kept" not in {record.environment.flags["freed_memory"] for record in records()}
    assert "process 2 of 2: building resnet18" in result.stderr


def test_what_the_fresh_process_refuses_is_said(tmp_path: Path) -> None:
    """Weights that are not there: one line, exit code 2, as in this process."""
    result = invoke("resnet18", "--weights", "none.pt", "--repeat", "2", *QUICK)
    assert result.exit_code == 2
    assert "none.pt" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_other_process_says_nothing_while_it_is_timing(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Progress within timing would wake this process up, beside the work that is being timed."""
    from bench.compute.model import identify
    from bench.spec.profile import ProfileSpec, TimingSpec

    spec = ProfileSpec(
        models=(identify(tiny_model),),
        batch_sizes=(2,),
        memory=False,
        timing=TimingSpec(max_s=0.02),
    )
    job = jobs.ProfileJob(spec, out=Path("profiles"))
    monkeypatch.setattr(sys, "argv", ["jobs", "profiles"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(jobs.job_text(job) + "\n"))
    jobs.main()
    events = [jobs.decode(line, job) for line in capfd.readouterr().out.splitlines()]
    stages = [event.stage for event in events if isinstance(event, Profiling)]
    assert "warm-up" in stages
    assert "timing" not in stages
    assert isinstance(events[-1], RowDone)


DYING = """
import os, signal, sys
from bench.execute import jobs
teller = jobs.teller
def dying(events):
    emit = teller(events)
    def tell(event):
        emit(event)
        if isinstance(event, jobs.RowDone):
            print("its last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    return tell
jobs.teller = dying
jobs.main()
"""


def test_a_fresh_process_that_dies_is_no_usage_error_and_its_rows_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first row of the first process: exit code 1, and what it said last."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", DYING))
    result = invoke("resnet18", "--batch-size", "1,2", "--repeat", "2", "--no-breakdown", *QUICK)
    assert result.exit_code == 1, result.output
    assert "failed: process 1 of 2: ended by SIGKILL" in result.stderr
    assert "its last words; 1 finished rows are kept in profiles" in result.stderr
    assert len(records()) == 1


def test_fresh_processes_write_to_any_folder_and_read_weights_from_any_file(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 go through JSON, which has no way to write them."""
    odd = Path("\udcff") / "w\udcfe.pt"
    odd.parent.mkdir()
    with odd.open("wb") as file:
        torch.save(senet.build("resnet18").state_dict(), file)
    # JSON names no folder, which this test's stdout could not be given.
    arguments = ("--weights", str(odd), "--batch-size", "1", "--repeat", "2", "--json")
    how = ("--no-breakdown", "--out", str(odd.parent), *QUICK)
    result = invoke("resnet18", *arguments, *how)
    assert result.exit_code == 0, result.output
    assert len(list(odd.parent.glob("*.json"))) == 4
