"""The pass contract: a frozen dataclass whose fields are its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ..ir.graph import Graph
    from .context import Context


@dataclass(frozen=True)
class PassResult:
    """What a pass leaves behind besides its records in the run store."""

    graph: Graph | None = None
    """The new graph, where the pass made one."""
    notes: tuple[str, ...] = ()
    """Short facts for the log, each one line."""


@dataclass(frozen=True)
class Pass(ABC):
    """One stage. Results are written to the context's run store unit by unit.

    The runner checks ``requires`` before and ``ensures`` after (artifact names, see ``records.py``), records
    options and seconds, and skips a pass whose options and inputs did not change since it finished.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    """Artifacts that it takes up where they are there; it runs again when they change."""
    ensures: ClassVar[tuple[str, ...]] = ()
    durable: ClassVar[bool] = True
    """False for passes that run each time: what they make is in memory (capture ensures ``graph``), or in a file."""

    @abstractmethod
    def run(self, context: Context) -> PassResult:
        """Do the stage's work, or the part of it that is not yet in the store."""
