"""Read target files: those that come with hant by name, a user's by path."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError, nearest
from ...transformer.tools.reading import read_toml


def load_target(name_or_path: str | Path) -> Target:
    """Return the target of a name such as ``cpu-ort`` or of a path to a TOML file.

    Raises:
        UsageError: no such target, with the nearest name; or a field is missing, unknown or out of range.
        LoadError: the file cannot be read or is not TOML.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = Path(text)
        return _target(read_toml(path, f"target file {path}", LoadError, "give a name or a TOML file"), str(path))
    shipped = _shipped()
    if text not in shipped:
        raise UsageError(f"unknown target {text!r}{nearest(text, shipped)}; or give the path of a TOML file")
    return _target(tomllib.loads(shipped[text]), f"{text}.toml")


def list_targets() -> tuple[Target, ...]:
    """Return every target that comes with hant, by name."""
    return tuple(_target(tomllib.loads(content), f"{name}.toml") for name, content in sorted(_shipped().items()))


def _shipped() -> dict[str, str]:
    folder = files(__name__.rpartition(".")[0])
    return {
        item.name.removesuffix(".toml"): item.read_text(encoding="utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".toml")
    }


def _target(table: dict[str, Any], where: str) -> Target:
    try:
        return Target.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(f"target file {where}: {field}: {first['msg']}; see cpu-ort.toml for an example") from error
