"""``py:package.module:function`` and ``py:./file.py:function``: the user's own code, which is run.

The function, or class, returns a module. It is given by name what it takes of ``num_classes``,
``image_size`` and ``in_channels``, and the arguments in brackets.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bench.compute.sources.source import Source, Wanted
from bench.errors import UserError, first_line
from bench.record.files import sha256


def py() -> Source:
    """Return models that a function of the user's makes; importing it runs the user's code."""
    return Source(build=_build, origin=_origin)


def _origin(rest: str) -> dict[str, str]:
    module, _ = _found(rest)
    path = getattr(module, "__file__", None)
    return {"file_sha256": sha256(Path(path))} if path else {}


def _build(rest: str, wanted: Wanted) -> nn.Module:
    _, function = _found(rest)
    model = function(**_given(function, wanted, f"py:{rest}"))
    if not isinstance(model, nn.Module):
        raise UserError(f"py:{rest} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _given(function: Callable[..., Any], wanted: Wanted, name: str) -> dict[str, Any]:
    """Return the arguments that a function takes of what is known, and those in brackets."""
    known = {
        "num_classes": wanted.num_classes,
        "image_size": wanted.image_size,
        "in_channels": wanted.in_channels,
    }
    try:
        takes = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # made in C
        return dict(wanted.arguments)
    names = {p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in takes)
    for argument in wanted.arguments:
        if argument not in names and not anything:
            raise UserError(f"{name} takes no {argument}; it takes: {', '.join(sorted(names))}")
    return {key: value for key, value in known.items() if key in names} | dict(wanted.arguments)


def _found(rest: str) -> tuple[ModuleType, Callable[..., Any]]:
    """Return the module and the function that a name stands for; UserError where there is none."""
    place, _, name = rest.rpartition(":")
    if not place or not name:
        raise UserError(f"py:{rest} is no FILE.py:FUNCTION and no PACKAGE.MODULE:FUNCTION")
    is_file = place.endswith(".py") or os.sep in place or "/" in place
    try:
        module = _from_file(Path(place)) if is_file else importlib.import_module(place)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"py:{rest}: no module {error.name!r} can be imported") from None
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise UserError(f"py:{rest}: importing {place} failed: {first_line(error)}") from None
    function = getattr(module, name, None)
    if not callable(function):
        able = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UserError(f"{place} has no function {name!r}; it has: {', '.join(able) or 'none'}")
    return module, function


def _from_file(path: Path) -> ModuleType:
    """Import a file once for each content of it, its folder being where it imports from."""
    path = path.expanduser()
    if not path.is_file() or path.stat().st_size == 0:  # which may be one that is waited for
        raise UserError(f"there is no file {path}, or it is empty")
    content = hashlib.sha256(os.fsencode(path.resolve()) + path.read_bytes()).hexdigest()
    name = f"senet_bench_user_{content[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py can be imported"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for it there
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
    return module
