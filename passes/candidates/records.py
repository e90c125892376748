"""Record of what fits a block."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record, Scope


class OperationRecord(Record):
    """Whether an operation can stand for a block. Key: ``block/operation``."""

    kind: ClassVar[str] = "operation"
    scope: ClassVar[Scope] = Scope.TARGET
    block: str
    operation: str
    fits: bool
    reason: str = ""
    """Why it does not fit."""
    parameters: int = 0
    macs: int = 0
    latency_key: str = ""
    """Key of the latency record that holds its time; shared by equal blocks."""
