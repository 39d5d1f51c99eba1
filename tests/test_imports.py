"""The directions in which modules may import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASUREMENTS = {"train", "evaluate", "cost", "timing"}
WIRING = {"run", "rescore", "cell", "profile", "workload"}
HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "scipy", "pydantic", "numpy", "senet")


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Return the absolute names of the modules that a file imports, TYPE_CHECKING left out."""
    tree = ast.parse(path.read_text())
    return {name for node in _nodes(tree, top_level_only) for name in _names(node)}


def _nodes(tree: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from _nodes(node, top_level_only)


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(*patterns: str) -> list[Path]:
    """Return the source files that match, of which there must be some."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert found
    return found


def imports_any(path: Path, packages: tuple[str, ...], **options: bool) -> set[str]:
    """Return which of the packages a file imports from."""
    names = imported(path, **options)
    return {p for p in packages if any(name == p or name.startswith(p + ".") for name in names)}


def test_senet_never_imports_bench() -> None:
    assert {p.name: imports_any(p, ("bench",)) for p in files("senet/*.py")} == {
        p.name: set() for p in files("senet/*.py")
    }


@pytest.mark.parametrize("name", ["spec", "record", "timing", "stats", "experiment", "accuracy"])
def test_specifications_records_and_statistics_do_without_torch(name: str) -> None:
    assert imports_any(ROOT / "bench" / f"{name}.py", ("torch", "torchvision", "senet")) == set()


def test_reports_read_files_only_and_never_import_torch() -> None:
    code = "import sys, bench.report.write, bench.report.charts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(MEASUREMENTS))
def test_measurements_do_not_import_each_other(name: str) -> None:
    others = tuple(f"bench.{other}" for other in MEASUREMENTS - {name})
    assert imports_any(ROOT / "bench" / f"{name}.py", others) == set()


def test_only_the_wiring_imports_several_measurements() -> None:
    measurements = tuple(f"bench.{name}" for name in MEASUREMENTS)
    for path in files("bench/*.py", "bench/data/*.py", "bench/report/*.py"):
        if path.stem not in WIRING:
            assert len(imports_any(path, measurements)) <= 1, path.name


def test_only_device_asks_which_devices_there_are() -> None:
    asking = ("cuda.is_available", "mps.is_available", "cuda.synchronize", "mps.synchronize")
    for path in files("bench/**/*.py", "senet/*.py"):
        if path.name != "device.py":
            assert not [word for word in asking if word in path.read_text()], path.name


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    for path in files("bench/cli/*.py", "bench/__main__.py"):
        assert imports_any(path, HEAVY, top_level_only=True) == set(), path.name
    code = f"import sys, bench.cli.app; sys.exit(any(p in sys.modules for p in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
