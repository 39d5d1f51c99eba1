"""The directions in which folders may import each other."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "scipy", "pydantic", "numpy", "senet")
ROOM = ("errors", "events", "signals")  # of the root: whoever needs to may import them
# What each folder of bench/ may import of the others; a name that is missing is forbidden.
MAY_IMPORT = {
    "spec": ("errors",),
    "record": ("errors", "signals", "spec"),
    "stats": ("errors",),
    "machine": ("errors", "spec", "record"),
    "data": ("errors", "spec", "record", "machine"),
    "compute": ("errors", "signals", "spec", "record", "machine", "data"),
    "train": (*ROOM, "spec", "record", "stats", "machine", "data", "compute"),
    "measure": (*ROOM, "spec", "record", "stats", "machine", "data", "compute"),
    "report": ("errors", "spec", "record", "stats"),
    "execute": (
        *(*ROOM, "spec", "record", "stats", "machine", "data", "compute"),
        *("train", "measure", "report", "presets"),
    ),
}


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


ALL = [*ROOT.glob("bench/**/*.py"), *ROOT.glob("senet/**/*.py")]


def imports_any(path: Path, packages: tuple[str, ...], **options: bool) -> set[str]:
    """Return which of the packages a file imports from."""
    names = imported(path, **options)
    return {p for p in packages if any(name == p or name.startswith(p + ".") for name in names)}


def rooms_imported(path: Path) -> set[str]:
    """Return the folders and files of bench/'s root that a file imports from."""
    parts = [name.split(".") for name in imported(path)]
    return {part[1] for part in parts if part[0] == "bench" and len(part) > 1}


def test_senet_never_imports_bench() -> None:
    assert {p.name: imports_any(p, ("bench",)) for p in files("senet/*.py")} == {
        p.name: set() for p in files("senet/*.py")
    }


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_each_folder_imports_what_stands_below_it(folder: str) -> None:
    for path in files(f"bench/{folder}/**/*.py"):
        assert rooms_imported(path) <= {*MAY_IMPORT[folder], folder}, path


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even inside functions, where Python would let them."""
    modules = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ALL}
    names = {name.removesuffix(".__init__"): name for name in modules.values()}
    graph = {
        name: {names[found] for found in imported(path) & names.keys()} - {name}
        for path, name in modules.items()
    }
    for name, found in graph.items():  # `from package import module` names the package as well
        found -= {other for other in found if other.endswith("__init__") and other != name}
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


def test_every_folder_has_its_rule() -> None:
    folders = {p.parent.relative_to(ROOT / "bench").parts[0] for p in files("bench/*/**/*.py")}
    assert folders == {*MAY_IMPORT, "cli", "presets"}


# What says which model it is, and does not need torch to say so.
TORCH_FREE = tuple(f"senet.{name}" for name in ("architecture", "attention", "catalogue", "errors"))


@pytest.mark.parametrize("folder", ["spec", "record", "stats", "report"])
def test_specifications_records_statistics_and_reports_do_without_torch(folder: str) -> None:
    for path in files(f"bench/{folder}/**/*.py"):
        assert imports_any(path, ("torch", "torchvision")) == set(), path
        of_senet = {name for name in imported(path) if name.split(".")[0] == "senet"}
        assert all(name.startswith(TORCH_FREE) for name in of_senet), path


def test_a_report_is_rendered_without_torch() -> None:
    code = "import sys, bench.report.write, bench.report.charts.draw\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_within_reports_reading_comes_before_deriving_and_rendering_last() -> None:
    order = ("read", "derive", "charts", "page")
    for number, part in enumerate(order):
        later = tuple(f"bench.report.{name}" for name in order[number + 1 :])
        for path in files(f"bench/report/{part}/**/*.py"):
            assert imports_any(path, later) == set(), path


def test_only_machine_asks_which_devices_there_are() -> None:
    asking = ("cuda.is_available", "mps.is_available", "cuda.synchronize", "mps.synchronize")
    for path in files("bench/**/*.py", "senet/*.py"):
        if path.parent.name != "machine":
            assert not [word for word in asking if word in path.read_text()], path


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    for path in files("bench/cli/**/*.py", "bench/__main__.py"):
        assert imports_any(path, HEAVY, top_level_only=True) == set(), path.name
    code = f"import sys, bench.cli.app; sys.exit(any(p in sys.modules for p in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
