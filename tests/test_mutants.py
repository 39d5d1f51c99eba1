"""The list of faults that `make mutants` makes stays true to the code: each text is still there."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants.py")
assert SPEC is not None
assert SPEC.loader is not None
mutants = importlib.util.module_from_spec(SPEC)
import sys  # noqa: E402

sys.modules["mutants"] = mutants  # dataclasses look their module up
SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_can_still_be_made_and_its_tests_are_there(mutant):
    """A line that was moved or reworded is no fault any more, and nothing would tell."""
    assert mutant.right in (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.right != mutant.wrong
    assert all((ROOT / test).exists() for test in mutant.tests.split())
