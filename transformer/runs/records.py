"""Records of the run itself: what it is bound to, and its finished passes."""

from __future__ import annotations

from typing import Any, ClassVar

from ..contracts.pass_ import pass_scope
from ..contracts.record import Record, Scope


class PassRecord(Record):
    """A finished pass."""

    kind: ClassVar[str] = "pass"
    fingerprint: str
    """Of its options and of the passes it builds on."""
    options: dict[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()
    unverified: str = ""
    """Why what it made could not be verified; such a pass runs again."""

    @classmethod
    def scope_of(cls, key: str) -> Scope:
        """Return for whom the pass of that name works."""
        return pass_scope(key)


class NamedRecord(Record):
    """A student that was begun. Key: ``named``. The one that need not be named has none while it is on the run's first
    target.
    """

    kind: ClassVar[str] = "named"
    table: str
    """``Store.table`` of the target that it is made for."""


class RunRecord(Record):
    """What the run is bound to for good. Key: ``run``."""

    kind: ClassVar[str] = "run"
    scope: ClassVar[Scope] = Scope.RUN
    teacher: str
    """Hash of the teacher's weights and structure."""
    inputs: tuple[str, ...]
    """Shapes of one sample, such as ``3x32x32``."""
    data: str | None
    """Name of the data; None until a stage needs data."""
    seed: int
    structure: str = ""
    """Hash of what the teacher computes, apart from its weights; empty until it is captured."""
    content: str = ""
    """Hash of the data's sizes and labels; empty until a stage needs data."""
    looks: tuple[tuple[float, ...], ...] = ()
    """How some images look: means of their quarters."""
