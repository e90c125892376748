"""Records of the student's training."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record


class EpochRecord(Record):
    """One epoch of fine-tuning. Key: ``epoch number``."""

    kind: ClassVar[str] = "epoch"
    epoch: int
    train_loss: float
    held_out_accuracy: float
    learning_rate: float
    seconds: float
    recipe: str


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
