"""What reaches the terminal: names of strangers as text, never as codes that a terminal obeys."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

# Control codes of both sets, and the marks that turn the direction of a line around or hide in it.
_CODES = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_IN_LINE = re.compile(f"[\t\n{_CODES}]")
_IN_TEXT = re.compile(f"[{_CODES}]")


def shown(text: str) -> str:
    """Return one line of text with every code in it written out by its number, as Python writes it."""
    return _IN_LINE.sub(_written, text)


def shown_lines(text: str) -> str:
    """Return text of several lines with every code in it written out, save the ends of lines and tabs."""
    return _IN_TEXT.sub(_written, text)


def write_json(value: Any) -> None:
    """Write plain data on standard output as the one JSON document of a command; codes stand in it escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    sys.stdout.write(_IN_TEXT.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def _written(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
