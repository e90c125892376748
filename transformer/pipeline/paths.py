"""Paths of a configuration, so that a run goes on from any working directory."""

from __future__ import annotations

from typing import Any

from ..data.sources import FOLDERS, split_folder
from ..tools.files import expanded
from .config import Config


def anchored(config: Config) -> dict[str, Any]:
    """Return the options that name files or folders which are there, with their whole paths."""
    values = {
        "model": _whole(config.model),
        "classes": _whole(config.classes),
        "arch": _code(config.arch),
        "data": _data(config.data),
        **{name: _whole(value) for name in ("target", "pool") if (value := getattr(config, name)).endswith(".toml")},
    }
    return {name: value for name, value in values.items() if value != getattr(config, name)}


def _whole(text: str | None) -> str | None:
    if not text:
        return text
    path = expanded(text)
    return str(path.absolute()) if path.exists() else text


def _code(text: str | None) -> str | None:
    """Return ``file.py:function`` with the whole path of the file; anything else as it is."""
    place, _, function = (text or "").rpartition(":")
    return f"{_whole(place)}:{function}" if place.endswith(".py") else text


def _data(text: str | None) -> str | None:
    kind, _, rest = (text or "").partition(":")
    if kind not in FOLDERS:
        return _code(text)
    folder, _ = split_folder(rest)
    return f"{kind}:{_whole(folder)}{rest[len(folder) :]}"
