"""The names of a run's students, and where the files of each lie."""

from __future__ import annotations

import re
from pathlib import Path

from ..contracts.record import STUDENT
from ..errors import HantError, UsageError

FOLDER = "students"
EXPECTED = "expected letters, digits, '-', '_' and '.', a letter or digit first, 64 at most"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_name(name: str) -> bool:
    """Return whether a student can be called so: the name is a folder's too."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, kind: type[HantError] = UsageError, where: str = "student ") -> str:
    """Return the name.

    Raises:
        UsageError: nobody can be called so; or what else ``kind`` says.
    """
    if not is_name(name):
        raise kind(f"{where}{name!r:.80}: {EXPECTED}")
    return name


def folder(root: Path, student: str) -> Path:
    """Return the folder of a student's files: the run's own for the one that need not be named."""
    return root if student == STUDENT else root / FOLDER / student
