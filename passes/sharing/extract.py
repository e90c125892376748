"""Cut a student out of the shared weights: no step of training, so any budget later costs seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from ...transformer.errors import LostError, UsageError
from ...transformer.ir.graph import Graph
from ...transformer.tools.modes import evaluating
from ..finetuning.align import ALIGNED
from ..finetuning.examine import parts_of
from ..finetuning.records import AlignmentRecord
from ..finetuning.start import start_of
from ..finetuning.training_pass import winning_choice
from ..networks.assemble import CandidateWeights
from ..networks.evaluate import evaluate
from ..networks.placement import placed
from ..ranking.records import WinnerRecord
from .examine import calibration_images
from .network import Choice, SharedNetwork, recalibrate
from .records import SharedRecord


@dataclass(frozen=True)
class ExtractPass(Pass):
    """Write the winner's weights as they were in the shared training, with batch norms estimated anew for it.

    It stands in the place of ``align``; ``finetune`` may train the student further.
    """

    name: ClassVar[str] = "extract"
    requires: ClassVar[tuple[str, ...]] = ("winner", "candidate", "shared")
    ensures: ClassVar[tuple[str, ...]] = ("alignment",)

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone, or are not those of the winner."""
        record = context.store.get(AlignmentRecord, "alignment")
        winner = context.store.get(WinnerRecord, "winner")
        if record is None or not context.store.path(record.file).is_file():
            return f"{ALIGNED} is missing"
        return "another selection has won since" if winner is not None and winner.choice != record.choice else ""

    def run(self, context: Context) -> PassResult:
        """Cut, estimate, look at held-out images, write."""
        choice = winning_choice(context)
        record = context.store.get(SharedRecord, "shared")
        assert record is not None, "required by the pass contract"
        lacking = record.lacking(choice)
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise UsageError(
                f"the shared training of {context.store.root} has no {lacking[0]}{more}, which student "
                f"{context.store.student} is made of; train it anew with all budgets: "
                "hant-opt shrink RUN --anew --budgets 0.3,0.45,0.6"
            )
        student = extracted(context, shared_network(context, record), choice)
        judges, task = parts_of(context.dataset, context.seed).judges, context.dataset.task
        found = evaluate(student.network, judges, device=context.device, task=task)
        alignment = AlignmentRecord(
            file=ALIGNED,
            choice=choice,
            start=start_of(context, choice, "all"),
            recipe=f"{record.recipe}/{record.digest}",
            epochs=max(1, record.epochs),
            held_out_accuracy=found.accuracy,
            digest=context.store.save_tensors(ALIGNED, student.network.state_dict()),
        )
        context.store.put("alignment", alignment)
        return PassResult(notes=(f"{context.metric.text(found.accuracy)} on held-out images",))


def shared_network(context: Context, record: SharedRecord) -> SharedNetwork:
    """Return the shared network with its trained weights.

    Raises:
        LostError: their file is missing.
        LoadError: it is damaged.
    """
    if not context.store.path(record.file).is_file():
        raise LostError(f"{context.store.path(record.file)} is missing; hant-opt shrink makes it again", record.kind)
    shared = SharedNetwork(context.teacher, record.operations, CandidateWeights(context.store))
    shared.network.load_state_dict(context.store.load_tensors(record.file, digest=record.digest))
    return shared


def extracted(context: Context, shared: SharedNetwork, choice: Choice) -> Graph:
    """Return a student in eval mode with weights and batch norms of its own."""
    student = shared.student(choice)
    with evaluating(student.network), placed(context.device, student.network):
        recalibrate(student, calibration_images(context))
    student.network.eval()
    return student
