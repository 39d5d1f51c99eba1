"""Make text from records harmless where it is written: Markdown, CSV, charts, file names.

A model or data set may be called anything, so nothing it is called may become markup, a formula
or a path.
"""

from __future__ import annotations

import hashlib
import re

_MARKUP = re.compile(r"([\\`*\[\]|~#!])")
# Only what would be an entity, a tag or a quotation: "p < 0.001 & more" stays as it is.
_ENTITY = re.compile(r"&(?=[A-Za-z])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_QUOTE = re.compile(r"^>")
_LOOSE_UNDERSCORE = re.compile(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_FORMULA_STARTS = ("=", "+", "-", "@")
_UNSAFE_IN_NAMES = re.compile(r"[^0-9A-Za-z.-]+")


def one_line(text: str) -> str:
    """Return the text on one line, without control or direction-changing characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shortened(text: str, limit: int = 48) -> str:
    """Return one line of at most ``limit`` characters, cut with an ellipsis."""
    line = one_line(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def markdown(text: str) -> str:
    """Return the text for a Markdown table cell or sentence, markup and HTML shown literally."""
    escaped = _MARKUP.sub(r"\\\1", one_line(text))
    for pattern, shown in ((_ENTITY, "&amp;"), (_TAG, "&lt;"), (_QUOTE, r"\\>")):
        escaped = pattern.sub(shown, escaped)
    return _LOOSE_UNDERSCORE.sub(r"\_", escaped)


def csv_cell(text: str) -> str:
    """Return the text for a CSV cell; what a spreadsheet would run as a formula gets an apostrophe.

    The line is kept whole, so that one row stays one line for line-based tools.
    """
    line = one_line(text)
    return "'" + line if line.startswith(_FORMULA_STARTS) else line


def chart(text: str) -> str:
    """Return the text for a chart: short, and dollar signs do not start a formula."""
    return shortened(text, 40).replace("$", r"\$")


def file_name(text: str) -> str:
    """Return a safe, readable part of a file name; two texts never share one.

    Letters, digits, dots and dashes stay; anything else becomes a dash and a short hash is added.
    """
    plain = _UNSAFE_IN_NAMES.sub("-", text).strip(".-").lower()[:60]
    if plain and plain == text:
        return plain
    return (
        f"{plain}-{hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()[:6]}".lstrip(
            "-"
        )
    )


def chart_title(text: str) -> str:
    """Return the text for a chart's title or axis: longer than a label may be."""
    return shortened(text, 90).replace("$", r"\$")
