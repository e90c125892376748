"""What a command changes of a run's stored configuration, as the flags that say so."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

_NAMES = {"limits": "limit"}
"""Options whose flag is not called as they are."""
_NO_FLAG = ("model", "output", "passes", "shared")
"""What stands for itself in a command on a run."""


def flags_of(stored: str, new: str, usual: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the flags, each after a space, that turn the configuration ``stored`` into ``new``, both TOML.

    What is only left out in ``new`` has no flag, nor have options of passes that ``stored`` does not speak of and that
    are as ``usual``, by pass. A stored text that is no TOML says nothing.
    """
    try:
        old = tomllib.loads(stored)
    except tomllib.TOMLDecodeError:
        return ""
    return "".join(f" {flag}" for flag in _flags(old, tomllib.loads(new), usual or {}))


def _flags(old: dict[str, Any], new: dict[str, Any], usual: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, value in new.items():
        if name in _NO_FLAG or value == old.get(name):
            continue
        flag = "--" + _NAMES.get(name, name).replace("_", "-")
        if value is True:
            yield flag
        elif isinstance(value, dict):
            yield f"{flag} {shlex.quote(json.dumps(value))}"
        else:
            for item in value if isinstance(value, list) else [value]:
                yield f"{flag} {shlex.quote(str(item))}"
    for stage, table in new.get("passes", {}).items():
        known = {**usual.get(stage, {}), **old.get("passes", {}).get(stage, {})}
        for name, value in table.items():
            if value != known.get(name):
                text = tomli_w.dumps({"x": value}).partition("= ")[2].strip() if not isinstance(value, str) else value
                yield f"--set {shlex.quote(f'{stage}.{name}={text}')}"
