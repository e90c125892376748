"""Read target files: those that come with hant by name, a user's by path."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError, nearest


def load_target(name_or_path: str | Path) -> Target:
    """Return the target of a name such as ``cpu-ort`` or of a path to a TOML file.

    Raises:
        UsageError: no such target, with the nearest name; or a field is missing, unknown or out of range.
        LoadError: the file cannot be read or is not TOML.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = Path(text)
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise LoadError(f"cannot read target file {path}: {reason}; give a name or a TOML file") from error
        return _parse(content, str(path))
    shipped = _shipped()
    if text not in shipped:
        raise UsageError(f"unknown target {text!r}{nearest(text, shipped)}; or give the path of a TOML file")
    return _parse(shipped[text], f"{text}.toml")


def list_targets() -> tuple[Target, ...]:
    """Return every target that comes with hant, by name."""
    return tuple(_parse(content, f"{name}.toml") for name, content in sorted(_shipped().items()))


def _shipped() -> dict[str, str]:
    folder = files(__package__)
    return {
        item.name.removesuffix(".toml"): item.read_text(encoding="utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".toml")
    }


def _parse(content: str, where: str) -> Target:
    try:
        return Target.model_validate(tomllib.loads(content))
    except tomllib.TOMLDecodeError as error:
        raise LoadError(f"target file {where} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(f"target file {where}: {field}: {first['msg']}; see cpu-ort.toml for an example") from error
