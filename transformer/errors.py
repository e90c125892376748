"""Errors that a user can act on. Floor 0: imports nothing of hant, may be imported by all.

A message is one line: what, where, what was expected and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class HantError(Exception):
    """Base of every expected error; ``exit_code`` is what the command returns."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        """Return the message in one line, whatever line breaks there are in names that it tells of."""
        return " ".join(line.strip() for line in super().__str__().splitlines())


class UsageError(HantError):
    """Wrong usage or input: exit code 2."""


class LoadError(UsageError):
    """A model, data or record file cannot be read."""


class LostError(LoadError):
    """A file of a run is missing; ``kind`` is the artifact that it belongs to, whose pass makes it again."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CaptureError(UsageError):
    """A network cannot be captured exactly."""


class UnfitError(UsageError):
    """An operation does not fit the tensors of a block."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed; run: pip install 'hant[{extra}]'")


class InfeasibleError(HantError):
    """The budget cannot be met: exit code 3.

    ``least`` maps each limit to the least cost that can be reached, in the unit of the limit.
    """

    exit_code = 3

    def __init__(self, message: str, least: dict[str, float] | None = None) -> None:
        super().__init__(message)
        self.least = least or {}


class AccuracyError(HantError):
    """The student loses more accuracy than is allowed: exit code 3. The run has it, with its report."""

    exit_code = 3


class UnverifiedError(HantError):
    """The work is done but not verified on the device: exit code 4."""

    exit_code = 4


class StorageError(HantError):
    """A run directory cannot be read or written; what was finished is kept."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint ``; did you mean 'x'? known: a, b`` for an unknown ``name``."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.5)  # quadratic in the length of the name
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"{hint} known: {shown}" if hint else f"; known: {shown}"
