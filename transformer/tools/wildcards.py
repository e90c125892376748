"""Names by wildcards (``*``, ``?``, ``[ab]``), in the shell's way. Floor 0: imports nothing of hant but errors."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..errors import UsageError

LONGEST = 500
"""Signs of a pattern."""


def matches(name: str, pattern: str) -> bool:
    """Return whether ``name`` is as ``pattern`` says.

    Raises:
        UsageError: the pattern is longer than ``LONGEST``. The time to read one grows with the square of its length,
            and it may come from a stranger.
    """
    if len(pattern) > LONGEST:
        raise UsageError(f"pattern {pattern[:40]!r}... has {len(pattern)} signs; expected at most {LONGEST}")
    return fnmatchcase(name, pattern)
