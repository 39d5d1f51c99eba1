"""Two checkouts measured in turns: the order, what is repeated, when it ends, what is refused."""

import subprocess

import pytest
import record_factory as make

from bench.errors import UserError
from bench.execute import take_turns
from bench.execute.jobs import profiles_in
from bench.record.profile import NoiseFacts
from bench.record.read_write import to_json
from bench.report.derive.speed import gate

# Stands for the code of a checkout: "profile" writes the record that lies beside it.
PROFILE = """
import json, sys, time, uuid
from pathlib import Path
here = Path(__file__).parents[1]
out = Path(sys.argv[sys.argv.index("--out") + 1])
with open(here.parent / "log", "a") as log:
    log.write(here.name[0])
if (here / "broken").exists():
    sys.exit("error: it does not run")
record = json.loads((here / "record.json").read_text())
record["id"] = uuid.uuid4().hex
count = len((here.parent / "log").read_text())
record["environment"]["started_at"] = f"2026-01-01T00:{count:02}:00Z"
record["timing"]["block_s"] = [s * (1 + 0.001 * (count % 3)) for s in record["timing"]["block_s"]]
out.mkdir(parents=True, exist_ok=True)
(out / f"{record['id']}.json").write_text(json.dumps(record))
"""


@pytest.fixture
def sides(tmp_path):
    """Return two checkouts, the second of which takes a fifth longer."""
    for name, call_s in (("a", 0.1), ("b", 0.12)):
        package = tmp_path / name / "bench"
        package.mkdir(parents=True)
        (package / "__main__.py").write_text(PROFILE)
        (package / "__init__.py").write_text("")
        record = make.profile_record(call_s=call_s, noise=0.001)
        (tmp_path / name / "record.json").write_text(to_json(record))
    return tmp_path / "a", tmp_path / "b"


def measure(sides, out, num_pairs=5, timeout_s=None):
    said = []
    turns = take_turns.measure_in_turns(
        *sides, ["resnet50"], out, num_pairs=num_pairs, timeout_s=timeout_s, say=said.append
    )
    return turns, said


def test_processes_alternate_and_decide(sides, tmp_path):
    """Five pairs in ABBA order; 20 % more time is slower, whatever side it is on."""
    turns, _ = measure(sides, tmp_path / "out")
    assert (tmp_path / "log").read_text() == "abbaabbaab"
    assert (turns.num_pairs, turns.num_repeated, turns.out_of_time) == (5, 0, False)
    base, new = (gate.read(tmp_path / "out" / side) for side in ("base", "new"))
    (change,) = gate.compare(base, new)
    assert (change.verdict, change.interval.num_samples) == ("slower", 5)
    (change,) = gate.compare(new, base)
    assert change.verdict == "faster"


def test_a_starved_pair_is_measured_again_and_then_no_more(sides, tmp_path):
    """Other work beside one side: three repeats in all, the last of which is kept."""
    record = make.profile_record().model_copy(update={"noise": NoiseFacts(other_cpu_share=0.6)})
    (sides[0] / "record.json").write_text(to_json(record))
    turns, said = measure(sides, tmp_path / "out", num_pairs=3)
    assert turns.num_repeated == take_turns.MAX_REPEATS == 3
    assert len((tmp_path / "log").read_text()) == 2 * (3 + 3)
    assert len(profiles_in(tmp_path / "out" / "base" / "0")) == 1
    assert any("measuring this pair again" in text for text in said)
    base, new = (gate.read(tmp_path / "out" / side) for side in ("base", "new"))
    assert [change.verdict for change in gate.compare(base, new)] == ["not decided"]


def test_no_pair_begins_that_would_end_too_late(sides, tmp_path):
    """After the first pair the time is over: one pair, and it is said."""
    turns, _ = measure(sides, tmp_path / "out", timeout_s=0.01)
    assert (turns.num_pairs, turns.out_of_time) == (1, True)


def test_a_side_that_fails_is_named_with_its_last_word(sides, tmp_path):
    """The checkout and what it said, in one line."""
    (sides[1] / "broken").touch()
    with pytest.raises(UserError, match=r"profile resnet50 failed in .*b: error: it does not run"):
        measure(sides, tmp_path / "out")


def test_a_revision_is_checked_out_and_put_away(tmp_path, monkeypatch):
    """A commit of the repository here becomes a folder meanwhile; nonsense is refused."""
    monkeypatch.chdir(tmp_path)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@x.org")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__main__.py").write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "bench" / "__main__.py").write_text("two")
    with take_turns.checkout("HEAD") as tree:
        assert (tree / "bench" / "__main__.py").read_text() == "one"
    assert not tree.exists()
    listed = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1
    with take_turns.checkout(".") as tree:
        assert (tree / "bench" / "__main__.py").read_text() == "two"
    refused = pytest.raises(UserError, match="neither a checkout of senet-bench nor a git rev")
    with refused, take_turns.checkout("nonsense"):
        pass
