"""Reading TOML and JSON that may come from a stranger. Floor 0: imports nothing of hant but errors.

Whatever is wrong with the text is one line: not UTF-8, not the format, too large, nested deeper than anything that is
meant, a number of thousands of digits.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import HantError, LoadError

MOST_BYTES = 16 * 1024 * 1024
DEEPEST = 64
"""Lists and tables inside each other."""
M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path, what: str, error: type[HantError], hint: str = "expected TOML") -> dict[str, Any]:
    """Return the table of a TOML file; ``what`` names it in errors, which are of the class ``error``."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except OSError as failure:
        raise error(f"cannot read {what}: {failure.strerror}; {hint}") from failure
    except UnicodeDecodeError as failure:
        raise error(f"cannot read {what}: not UTF-8 text; {hint}") from failure
    except ValueError as failure:
        raise error(f"cannot read {what}: its name holds a zero byte; {hint}") from failure
    if len(content) > MOST_BYTES:
        raise error(f"cannot read {what}: larger than {MOST_BYTES // 2**20} MiB; {hint}")
    return parse_toml(text.replace("\r\n", "\n"), what, error, hint)


def parse_toml(text: str, what: str, error: type[HantError], hint: str = "expected TOML") -> dict[str, Any]:
    """Return the table that a TOML text holds."""
    try:
        table: dict[str, Any] = bounded(tomllib.loads(text), what, error, hint)
    except ValueError as failure:
        raise error(f"{what} is not TOML: {failure}; {hint}") from failure
    except RecursionError as failure:
        raise error(f"{what} is nested deeper than {DEEPEST} levels; {hint}") from failure
    return table


def parse_json(text: str | bytes, what: str, error: type[HantError], hint: str = "expected JSON") -> Any:
    """Return what a JSON text holds."""
    try:
        return bounded(json.loads(text), what, error, hint)
    except ValueError as failure:
        raise error(f"{what} is not JSON: {failure}; {hint}") from failure
    except RecursionError as failure:
        raise error(f"{what} is nested deeper than {DEEPEST} levels; {hint}") from failure


def bounded(value: Any, what: str, error: type[HantError], hint: str) -> Any:
    """Return ``value`` if it is not nested deeper than anything that is meant; everything after may recurse."""
    level = [value]
    for _ in range(DEEPEST):
        if not level:
            return value
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    raise error(f"{what} is nested deeper than {DEEPEST} levels; {hint}")


def parse_model(text: str | bytes, kind: type[M], wrong: str, hint: str) -> M:
    """Return the model that a JSON text holds; ``wrong`` begins the error, such as ``report.json is damaged``."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise LoadError(f"{wrong}: {place}: {first['msg']}; {hint}") from failure
