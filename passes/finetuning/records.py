"""Records of the student's training."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record


class EpochRecord(Record):
    """One epoch of alignment or fine-tuning. Key: ``stage/epoch number``."""

    kind: ClassVar[str] = "epoch"
    stage: str = "finetune"
    """``align``, ``finetune``, ``shrink-align`` or ``shrink``."""
    epoch: int
    """0 for the start."""
    train_loss: float | None
    """None for the start."""
    held_out_accuracy: float
    divergence: float = 0.0
    """From the teacher's answers, in fine-tuning from the labels too; the state in which it is least is kept."""
    learning_rate: float
    seconds: float
    recipe: str
    students: dict[str, float] = {}
    """Of a shared training the held-out accuracy of each student; that above is their mean."""


class AlignmentRecord(Record):
    """The student after its training on the teacher's features. Key: ``alignment``."""

    kind: ClassVar[str] = "alignment"
    file: str
    """safetensors file of the whole network's weights, relative to the run."""
    choice: dict[str, str]
    start: str
    """Hash of what it was aligned from: the choice and how its candidates were trained."""
    recipe: str
    epochs: int
    held_out_accuracy: float
    digest: str = ""
    """Of the content of the file."""


class StudentRecord(Record):
    """The fine-tuned student. Key: ``student``."""

    kind: ClassVar[str] = "student"
    file: str
    """safetensors file of the whole network's weights, relative to the run."""
    choice: dict[str, str]
    epochs: int
    held_out_accuracy: float
    digest: str = ""
    """Of the file's tensors; empty in runs of earlier versions."""
    structure: str = ""
    """Of a designed network (``op_library/structure.py``); empty where the student is the teacher with other blocks."""
    size: tuple[int, int] | None = None
    """(H, W) of the images that it takes; None where they are as the teacher's."""
