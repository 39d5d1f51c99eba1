"""The README's numbers and definitions come from records and from the code."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from pathlib import Path

import pytest
import record_factory as make
import typer
from typer.testing import CliRunner

from bench.cli.app import app
from bench.errors import UserError
from bench.record.read_write import to_json
from bench.report.derive.findings import Findings, findings
from bench.report.page import markdown
from bench.report.page.blocks import Image
from bench.report.page.contents import contents
from bench.report.page.readme import column_definitions, fill, replace
from bench.report.page.tables import csv_table
from bench.report.page.tables.main_table import MAIN_DEFINITIONS, main_table
from bench.report.page.verdict import lines
from bench.report.read.load import load
from bench.report.read.study import study
from bench.report.table.rows import DEFINITIONS

README = Path(__file__).parents[4] / "README.md"


def test_only_the_marked_place_is_replaced() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert replace(text, "x", "new", README) == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"


def test_a_readme_without_the_place_is_refused() -> None:
    with pytest.raises(UserError, match="has no place for it: <!-- y:begin -->"):
        replace("nothing", "y", "new", README)


def test_the_definitions_beside_the_code_are_those_of_the_code() -> None:
    """They are made by ``make readme-table``, never by hand."""
    assert (README.parent / "bench/report/COLUMNS.md").read_text("utf-8") == column_definitions()


def test_every_column_is_defined() -> None:
    for name, what in (MAIN_DEFINITIONS | DEFINITIONS).items():
        assert f"| {name} | {what}" in column_definitions().replace("\\_", "_")


def documented_commands() -> list[str]:
    """Return every command line of the documents and of --help, on one line each."""
    from bench.cli.app import app

    texts = [(README.parent / name).read_text("utf-8") for name in ("README.md", "bench/README.md")]
    texts += [str(command.help).replace("\n\n", "\n") for command in app.registered_commands]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    starts = re.compile(r"^\s*(?:Example: |# |torchrun .* )?(?:senet-bench|-m bench) ")
    found = [line.partition("#")[0] if not line.startswith("#") else line for line in lines]
    return [
        starts.sub("", line).strip() for line in found if starts.match(line) and "…" not in line
    ]


def test_every_documented_command_is_understood() -> None:
    """Its options exist and its values can be read; what it would do is tested elsewhere."""
    from typer.main import get_command

    from bench.cli.app import app

    group = get_command(app)
    commands = documented_commands()
    assert len(commands) > 30
    for line in commands:
        name, *arguments = shlex.split(line)
        command = group.commands[name]  # type: ignore[attr-defined]
        with contextlib.suppress(typer.Exit):
            assert command.make_context(name, arguments, parent=None) is not None, line


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    for name, longest in (("README.md", 200), ("bench/README.md", 200)):
        file = README.parent / name
        text = file.read_text("utf-8")
        assert text.count("\n") <= longest
        for link in re.findall(r"\]\(<?([^)>]+)>?\)", text):
            if not link.startswith(("http", "#")):
                assert (file.parent / link.replace("\\_", "_")).exists(), link


def test_the_action_uses_options_that_compare_has() -> None:
    """The composite action is the recipe for CI; an option it names must exist."""
    from typer.main import get_command

    from bench.cli.app import app

    action = (README.parent / ".github/actions/compare/action.yml").read_text("utf-8")
    compare = get_command(app).commands["compare"]  # type: ignore[attr-defined]
    known = {option for parameter in compare.params for option in parameter.opts}
    used = set(re.findall(r"(--[a-z-]+)", action.partition("-m bench compare")[2]))
    assert {"--measure", "--fail-on", "--github", "--timeout"} <= used <= known


def found_in(folder: Path) -> Findings:
    return findings(study(load([folder])))


def test_the_table_and_the_answer_are_filled_in_and_linked(tmp_path: Path) -> None:
    """Ten rows and eight columns at most, each answer with its interval; the link is relative."""
    make.write_example(tmp_path / "records", num_test=1000, seeds=3, sittings=5)
    readme, report = tmp_path / "README.md", tmp_path / "reports" / "cpu" / "report.md"
    places = [f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in ("answer", "results")]
    readme.write_text("\n".join(places))
    fill(readme, found_in(tmp_path / "records"), report)
    text = readme.read_text()
    assert "From [reports/cpu/report.md](<reports/cpu/report.md>), which has the rest." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 6
    assert {row.count(" | ") for row in rows} == {7}
    assert any(row.startswith("| se_resnet50 | cifar | 3 × 3 | ") for row in rows)
    assert "data Shapes (5,000 + 1,000); recipe quick; trained on cpu, fp32" in text
    answers = [line for line in text.splitlines() if line.startswith("- **")]
    leads = ("- **Accuracy, Shapes, 3 epochs, 3 seeds:**", "- **Stem or", "- **What SE costs, one")
    assert [a.startswith(lead) for a, lead in zip(answers, leads, strict=True)] == [True] * 3
    for told in answers[:2]:  # the times of this example are all but exact
        assert re.search(r"\(−?[\d.]+(?: to |–)−?[\d.]+\)", told), told
    fill(readme, found_in(tmp_path / "records"), report)
    assert readme.read_text() == text


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    """What was trained is shown before what was only timed."""
    for number in range(12):
        make.write_profile(tmp_path, make.profile_record(make.model(f"resnet{number}")))
    make.write_run(tmp_path / "run", spec=make.model("resnet50"))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin --><!-- results:end -->")
    fill(readme, found_in(tmp_path), tmp_path / "report.md")
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 10
    assert rows[2].startswith("| resnet50 | ")
    assert "3 more rows are in the report." in readme.read_text()


def test_a_training_that_was_stopped_on_the_way_says_so(tmp_path: Path) -> None:
    """Its last epoch raised the accuracy by more than a point, of any seed."""
    flat = [0.5, 0.895, 0.9]
    for seed, last in enumerate((0.9, 0.9049, 0.92)):
        curve = [*flat[:2], last]
        record = make.run_record(make.model("resnet18"), correct=900, seed=seed)
        epochs = [
            e.model_copy(update={"top1": t}) for e, t in zip(record.epochs, curve, strict=True)
        ]
        changed = record.model_copy(update={"epochs": tuple(epochs)})
        make.write_run(tmp_path / str(seed)).write_text(to_json(changed))
    told = {}
    for seeds in ((0, 1), (0, 1, 2)):
        [cell] = study(load([tmp_path / str(seed) for seed in seeds])).cells
        told[len(seeds)] = (cell.still_learning, round(cell.last_epoch_gain or 0, 4))
    assert told == {2: (False, 0.0099), 3: (True, 0.025)}
    [doubt] = [text for lead, text in lines(found_in(tmp_path)) if lead == "Doubts:"]
    assert "1 of 1 model stopped while still learning" in doubt
    assert "(still learning)" in markdown.render(main_table(study(load([tmp_path]))))


def test_a_readme_that_is_not_there_is_named(tmp_path: Path) -> None:
    make.write_run(tmp_path / "records")
    with pytest.raises(UserError, match=r"cannot read .*missing.md: No such file"):
        fill(tmp_path / "missing.md", found_in(tmp_path / "records"), tmp_path / "report.md")


def test_a_readme_without_the_place_is_told_before_a_report_is_written(tmp_path: Path) -> None:
    """As is one that is a pipe, which would be waited for for ever."""
    make.write_run(tmp_path / "records")
    bare, pipe = tmp_path / "README.md", tmp_path / "pipe"
    bare.write_text("nothing")
    os.mkfifo(pipe)
    for readme, why in ((bare, "has no place for it"), (pipe, "no regular file")):
        arguments = ["report", tmp_path / "records", "--out", tmp_path / "out", "--readme", readme]
        found = CliRunner().invoke(app, list(map(str, arguments)))
        assert (found.exit_code, why in found.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_is_published_is_made_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by “make readme-table”: README, report.md and results.csv, to the last byte."""
    root, made = README.parent, tmp_path / "reports" / "cpu"
    (tmp_path / "README.md").write_text(README.read_text("utf-8"), "utf-8")
    # The report names the folders that it was made of as they were given.
    monkeypatch.chdir(root)
    found = findings(study(load(sorted(Path().glob("reports/*/records")))))
    fill(tmp_path / "README.md", found, made / "report.md")
    assert (tmp_path / "README.md").read_text("utf-8") == README.read_text("utf-8")
    drawn = re.findall(r"!\[(.*)\]\((.*)\.png\)", (root / "reports/cpu/report.md").read_text())
    blocks = contents(found, [Image(title, name) for title, name in drawn])
    assert markdown.render(blocks) == (root / "reports/cpu/report.md").read_text("utf-8")
    assert csv_table.to_csv(found.study) == (root / "reports/cpu/results.csv").read_text("utf-8")
