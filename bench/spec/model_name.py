"""The name of a model as users write it: ``resnet18``, ``timm:vit_tiny_patch16_224[depth=4]``.

A prefix says whose model it is. It has two letters or more, so that a drive of Windows is none,
and what is behind it is its source's business, slashes and colons included. In brackets at the end
stand arguments for the builder.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from bench.errors import UserError

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_-]+):(.*)", re.DOTALL)
_BRACKETS = re.compile(r"(.+?)\[(\s*[A-Za-z_]\w*\s*=.*)\]", re.DOTALL)
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_WORDS: dict[str, Any] = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class ModelName:
    """A name in its parts; ``prefix`` is empty for the models of this project."""

    prefix: str
    rest: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def full(self) -> str:
        """Return the name without its arguments."""
        return f"{self.prefix}:{self.rest}" if self.prefix else self.rest


def parse(text: str) -> ModelName:
    """Return the parts of a model's name; UserError for one that is no name."""
    bracketed = _BRACKETS.fullmatch(text)
    name, arguments = (bracketed[1], table(bracketed[2])) if bracketed else (text, {})
    prefixed = _PREFIX.fullmatch(name)
    if prefixed:
        return ModelName(prefixed[1], prefixed[2], arguments)
    if "/" in name or "\\" in name or ":" in name:
        raise UserError(
            f"{name!r} is no model: say where it comes from, as in timm:NAME, hf-hub:ORG/NAME,"
            " py:FILE.py:FUNCTION, onnx:FILE or pt2:FILE"
        )
    return ModelName("", name, arguments)


def table(text: str, *, first: str | None = None) -> dict[str, Any]:
    """Return the values in a text such as ``depth=4,stages=(2,3)``; UserError for another.

    ``first`` is whose value the first part is where that has no name.
    """
    found: dict[str, Any] = {}
    for number, part in enumerate(_split(text)):
        named = _KEY.fullmatch(part)
        if named is None and not (first and number == 0 and part.strip()):
            raise UserError(f"{text!r} should be name=value, with commas: {part.strip()!r} is not")
        key, said = (named[1], named[2]) if named else (str(first), part)
        if key in found:
            raise UserError(f"{key} is given twice in {text!r}")
        found[key] = value(said.strip())
    return found


def _split(text: str) -> list[str]:
    """Return the parts between commas that are not in brackets or quotation marks."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def value(text: str) -> Any:
    """Return what a text stands for: a number, true or false, a list, or else itself."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(re.sub(r"^\((.*?),?\)$", r"[\1]", text))
    except ValueError:
        return text
