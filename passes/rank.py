"""Evaluate the K selections as whole networks and take the best that is inside the budget when measured.

HANT section 2.2, "Candidate architecture evaluation": the linear proxy scores operations in isolation; the K networks
with their pretrained weights are evaluated on held-out training images (6,000 in the paper), the lowest loss wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..transformer.contracts.budget import Budget, Limit
from ..transformer.contracts.context import Context
from ..transformer.contracts.data import split, take
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import NetworkLatencyRecord, RankRecord, SelectionRecord, WinnerRecord
from ..transformer.errors import InfeasibleError
from .assemble import CandidateWeights, build_student
from .evaluate import evaluate
from .latency_model import measure_network
from .select import used_share


@dataclass(frozen=True)
class RankPass(Pass):
    """Write the loss of every selection and the winner."""

    name: ClassVar[str] = "rank"
    requires: ClassVar[tuple[str, ...]] = ("selection", "candidate")
    ensures: ClassVar[tuple[str, ...]] = ("rank", "winner")

    budget: Budget = field(default_factory=lambda: Budget(Limit(0.45, relative=True)))
    samples: int = 6000
    """Held-out training images to evaluate on, at most."""
    batch_size: int = 256

    def run(self, context: Context) -> PassResult:
        """Evaluate what is not yet evaluated, then choose."""
        selections = context.store.all(SelectionRecord)
        self._evaluate(context, selections)
        ranked = sorted(context.store.all(RankRecord).values(), key=lambda rank: (rank.loss, rank.index))
        for rank in ranked:
            selection = selections[f"{rank.index:03d}"]
            measured = measure_network(context, selection.choice)
            if used_share(measured, self.budget) <= 1:
                context.store.put("winner", _winner(selection, measured))
                note = f"selection {rank.index} of {len(ranked)} wins: loss {rank.loss:.4f}, {rank.accuracy:.2f} % held out"
                return PassResult(notes=(note,))
        raise InfeasibleError(
            f"none of the {len(ranked)} selections is inside budget {self.budget} when measured; "
            "the machine may be busy: give the same command again, or a larger --budget"
        )

    def _evaluate(self, context: Context, selections: dict[str, SelectionRecord]) -> None:
        done = context.store.all(RankRecord)
        held_out = take(split(context.dataset, context.seed).held_out, self.samples)
        weights = CandidateWeights(context.store)
        with context.progress.task("rank", len(selections)) as task:
            for key, selection in selections.items():
                if key not in done:
                    student = build_student(context.teacher, selection.choice, weights)
                    metrics = evaluate(student.network, held_out, self.batch_size, context.device)
                    record = RankRecord(
                        index=selection.index, loss=metrics.loss, accuracy=metrics.accuracy, samples=metrics.samples
                    )
                    context.store.put(key, record)
                task.advance()


def _winner(selection: SelectionRecord, measured: NetworkLatencyRecord) -> WinnerRecord:
    return WinnerRecord(
        index=selection.index,
        choice=selection.choice,
        objective=selection.objective,
        bound=selection.bound,
        predicted_ms=selection.predicted_ms,
        measured_ms=measured.timing.ms,
        teacher_ms=measured.teacher.ms,
    )
