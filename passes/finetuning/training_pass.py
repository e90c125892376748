"""What alignment and fine-tuning have in common: how the student is fed and saved, and whose weights they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Count, Decay, Factor, Pass, Work, one_of, setting
from ...transformer.errors import UsageError
from ..ranking.records import WinnerRecord
from .recipe import PRECISIONS, TrainingRecipe
from .records import AlignmentRecord, StudentRecord


@dataclass(frozen=True, kw_only=True)
class TrainingPass(Pass):
    """Base of the passes that train the winner as a whole and keep its weights in a file."""

    file: ClassVar[str]
    """Where the weights are kept, relative to the run."""
    written: ClassVar[type[AlignmentRecord | StudentRecord]]
    """The record of them."""

    momentum: Decay = TrainingRecipe.momentum
    augment: bool = TrainingRecipe.augment
    """Use the data's augmentation, where it has one."""
    parts: Count = TrainingRecipe.parts
    """Parts of a batch that go through the network one after another, where memory holds no more at a time."""
    mixed_precision: Annotated[str, one_of(PRECISIONS)] = TrainingRecipe.mixed_precision
    """``bf16`` or ``fp16`` for matrix products in half precision; ``no`` computes in single precision."""
    workers: Amount = setting(0, decides=False)
    """Processes that read images, for each that trains; 0 reads in between the steps."""
    save_seconds: Factor = setting(180.0, decides=False)
    """Time after which an epoch in training is made durable and goes on from there."""

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone, or are not those of the winner."""
        record = context.store.get(self.written, self.written.kind)
        winner = context.store.get(WinnerRecord, "winner")
        if record is None or not context.store.path(record.file).is_file():
            return f"{self.file} is missing"
        if winner is not None and winner.choice != record.choice:
            return "another selection has won since"
        return ""


def winning_choice(context: Context) -> dict[str, str]:
    """Return what is trained: the winner's operation of each block.

    Raises:
        UsageError: the run has none yet.
    """
    winner = context.store.get(WinnerRecord, "winner")
    if winner is None:
        raise UsageError("the run has no winner yet; run the rank stage first")
    return winner.choice


def work_of(recipe: TrainingRecipe, context: Context) -> Work:
    """Count the steps; the student is taken to be as large as the teacher, which runs beside it."""
    return Work(
        f"{recipe.epochs} epochs of {recipe.steps} steps of {recipe.batch_size} images",
        macs=4 * recipe.total * recipe.batch_size * context.teacher.macs,
        bytes=5 * 4 * context.teacher.parameters,
    )
