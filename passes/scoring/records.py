"""Record of what one candidate costs alone."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record, Scope


class ScoreRecord(Record):
    """Change of loss when one candidate alone replaces its block. Key: ``block/operation``."""

    kind: ClassVar[str] = "score"
    scope: ClassVar[Scope] = Scope.RUN
    block: str
    operation: str
    delta: float
    """Cross-entropy with the candidate minus the teacher's, on held-out training images."""
    accuracy: float
    """Top-1 with the candidate, in percent."""
    samples: int
    recipe: str = ""
    left_out: bool = False
    """Whether it loses more accuracy than the score pass allows, so that no search may choose it."""
