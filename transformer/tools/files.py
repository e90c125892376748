"""Paths as people write them, files that are written whole or not at all, and those that come with hant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ..errors import UsageError


def shipped(module: str, name: str) -> str:
    """Return the text of the file ``name`` that comes with hant in the folder of ``module`` (its ``__name__``)."""
    return files(module.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def slug(text: str) -> str:
    """Return ``text`` as a file name: anything but letters, digits, ``.``, ``_`` and ``-`` becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def expanded(text: str) -> Path:
    """Return the path that ``text`` names, ``~`` and ``~name`` being home directories.

    Raises:
        UsageError: nobody here has that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text!r} names a home directory that is not known here; give the whole path") from error


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write ``path`` through a temporary file beside it, fsync and rename; on failure nothing is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a link of that name is not written through
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)
