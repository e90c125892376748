"""Record of a shared training."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record, Scope


class SharedRecord(Record):
    """The weights that all students of a run share. Key: ``shared``."""

    kind: ClassVar[str] = "shared"
    scope: ClassVar[Scope] = Scope.RUN
    file: str
    """safetensors file of the shared network's weights, relative to the run."""
    digest: str
    students: dict[str, dict[str, str]]
    """The selections that the training was asked for, by student."""
    operations: dict[str, list[str]]
    """Of each block the operations that were trained, the teacher's too."""
    schedule: str
    drawn: bool
    """Whether the weights began from nothing."""
    start: str
    """Hash of how the candidates were trained that it began from."""
    recipe: str
    epochs: int
    steps: int
    cost: float
    """In epochs of the full network."""
    seconds: float
    accuracies: dict[str, float]
    """Of each student on held-out training images, in the best state."""

    def lacking(self, choice: dict[str, str]) -> list[str]:
        """Return what of a selection was not trained, as ``block/operation``."""
        trained = {block: {*names, "teacher"} for block, names in self.operations.items()}
        return [f"{b}/{operation}" for b, operation in choice.items() if operation not in trained.get(b, {"teacher"})]
