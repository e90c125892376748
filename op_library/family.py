"""A family of operations whose names follow one pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .activations import ACTIVATIONS
from .op_spec import OpSpec

NUMBER = r"(\d+(?:\.\d+)?)"
"""A positive number in a name, as a group."""
KERNEL = r"(\d+)x\1"
"""An odd kernel such as 3x3, as a group; only where it is the pattern's first group."""
ACTIVATION = f"(?:_({'|'.join(ACTIVATIONS)}))?"
"""Optional suffix, as a group."""


@dataclass(frozen=True)
class PatternFamily:
    """Implements the ``Family`` protocol: members of the full pool, and any other operation of the same pattern."""

    name: str
    """Prefix of the names."""
    members: tuple[OpSpec, ...]
    """Operations of the full pool, in order."""
    pattern: str
    """Regular expression of a name."""
    make: Callable[[tuple[str, ...]], OpSpec | None]
    """Makes the operation from the pattern's groups (empty where absent); None where a number is out of range."""

    def specs(self) -> tuple[OpSpec, ...]:
        """Return the family's operations of the full pool, in order."""
        return self.members

    def parse(self, name: str) -> OpSpec | None:
        """Return the operation called ``name``, or None if it is not of this family."""
        match = re.fullmatch(self.pattern, name)
        return None if match is None else self.make(match.groups(""))


def odd(kernel: int) -> bool:
    """Return whether a kernel has a centre, as all operations need."""
    return kernel % 2 == 1
