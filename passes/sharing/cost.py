"""What trainings cost, in epochs of the full network: forward and backward over all training images once."""

from __future__ import annotations

from ...transformer.contracts.context import Context
from ...transformer.data.images import size
from ..candidates.records import OperationRecord
from ..finetuning.align import AlignPass
from ..finetuning.examine import parts_of
from ..finetuning.finetune import FinetunePass
from ..ranking.records import WinnerRecord

TEACHING = 1 / 3
"""Of a pass: the teacher runs forward only."""


def epochs_alone(context: Context, expected: float = 1.0) -> float:
    """Return what it costs to train the student of the context alone, by default options.

    While it has no selection yet, it is ``expected`` to cost this share of the teacher.
    """
    winner = context.store.get(WinnerRecord, "winner")
    parts = parts_of(context.dataset, context.seed)
    aligning = AlignPass().recipe(context, "", parts).epochs
    tuning = FinetunePass().recipe(context, "", size(parts.fit), aligned=True).epochs
    share = expected if winner is None else share_of(context, winner.choice)
    return (aligning + tuning) * (share + TEACHING)


def share_of(context: Context, choice: dict[str, str]) -> float:
    """Return the MACs of a selection over the teacher's."""
    listed, graph = context.store.all(OperationRecord), context.teacher
    inside = sum(block.macs for block in graph.replaceable)
    chosen = sum(listed[f"{block.name}/{choice.get(block.name, 'teacher')}"].macs for block in graph.replaceable)
    return (graph.macs - inside + chosen) / max(1, graph.macs)
