"""Record of a trained candidate."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...transformer.contracts.record import Record, Scope


class CandidateRecord(Record):
    """An operation trained for a block. Key: ``block/operation``."""

    kind: ClassVar[str] = "candidate"
    scope: ClassVar[Scope] = Scope.RUN
    block: str
    operation: str
    state: Literal["ready", "failed", "dropped"]
    reason: str = ""
    """Why it failed or was dropped."""
    nmse: float | None = None
    """Mean squared error on held-out images over the variance of the teacher's output."""
    steps: int = 0
    seconds: float = 0.0
    file: str = ""
    """safetensors file, relative to the run; empty where there are no weights to keep."""
    recipe: str = ""
    """Fingerprint of how it was trained."""
    digest: str = ""
    """Of the file's tensors; empty in runs of earlier versions."""
    estimated: bool = False
    """Whether ``nmse`` was predicted from others of the family and the candidate not trained."""


class TrainedRecord(Record):
    """An operation's weights that a search has trained for its student, in place of the candidate's. Key:
    ``block/operation``.
    """

    kind: ClassVar[str] = "trained"
    block: str
    operation: str
    file: str
    """safetensors file, relative to the run."""
    recipe: str
    """Fingerprint of the search."""
    digest: str
    """Of the file's tensors."""
