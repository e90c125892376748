"""Train the best designs shortly, then the best of them to the end: a prediction alone never chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ...op_library.structure import Structure, SuperBlockNetwork
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Count, Pass, PassResult
from ...transformer.contracts.progress import Progress
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ..finetuning.examine import Parts, parts_of
from ..finetuning.finetune import STUDENT, FinetunePass
from ..finetuning.records import StudentRecord
from ..networks.evaluate import evaluate
from ..ranking.records import FinalistRecord, WinnerRecord
from .inherit import fresh, varied
from .master import master_of
from .records import DesignRecord
from .space import choice_of
from .timing import shape_of


@dataclass(frozen=True)
class TrainPass(Pass):
    """Train finalists for a few epochs, then the one that is best on held-out images with a full schedule."""

    name: ClassVar[str] = "train"
    requires: ClassVar[tuple[str, ...]] = ("design", "master")
    ensures: ClassVar[tuple[str, ...]] = ("winner", "student")

    finalists: Count = 3
    finalist_epochs: Count = 4
    epochs: Amount | None = None
    """Of the chosen one; by default as many as fine-tuning has without alignment."""
    inherit: bool = True
    """Begin with what fits of the MasterNet's weights; else from nothing, as in the paper."""
    finetune: FinetunePass = FinetunePass()
    """How networks are trained: rates, batches, distillation from the teacher."""

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone."""
        return "" if context.store.path(STUDENT).is_file() else f"{STUDENT} is missing"

    def run(self, context: Context) -> PassResult:
        """Write the student."""
        designs = list(context.store.all(DesignRecord).values())[: self.finalists]
        weights = master_of(context)[1]
        with context.progress.task("train", len(designs)) as task:
            tried = []
            for design in designs:
                tried.append((self.finalist(context, Structure.parse(design.structure), weights), design))
                task.advance(1, context.metric.text(tried[-1][0].accuracy))
        best, design = max(tried, key=lambda pair: context.metric.gain(pair[0].accuracy))
        structure = Structure.parse(design.structure)
        student = self._student(context, structure, weights)
        context.store.put("winner", _winner(design, structure))
        context.store.put("student", student)
        note = f"{len(tried)} finalists of {best.steps} steps: " + ", ".join(
            f"{context.metric.text(found.accuracy)} (predicted change {one.accuracy_change:+.2f})"
            for found, one in tried
        )
        return PassResult(
            notes=(
                note,
                f"{context.metric.text(student.held_out_accuracy)} on held-out images after {student.epochs} epochs",
            )
        )

    def _start(self, context: Context, structure: Structure, weights: Mapping[str, Tensor]) -> SuperBlockNetwork:
        if self.inherit:
            return varied(structure, weights, context.seed)
        return fresh(structure, *shape_of(context), context.seed)

    def finalist(self, context: Context, structure: Structure, weights: Mapping[str, Tensor]) -> FinalistRecord:
        """Return what a design reaches in a few epochs; a finished one is not trained again."""
        halves = split(context.dataset, context.seed)
        parts = Parts(halves.fit, halves.held_out)
        way = replace(self.finetune, epochs=self.finalist_epochs)
        recipe = way.recipe(context, self._name("finalist", structure), size(parts.fit))
        key = hashlib.sha256(f"{structure}/{recipe.fingerprint}".encode()).hexdigest()[:24]
        known = context.store.get(FinalistRecord, key)
        if known is not None:
            return known
        network = self._start(context, structure, weights)
        silent = replace(context, progress=Progress())
        state, _ = way.train(silent, network, recipe, parts, durable=False)
        network.load_state_dict(state.best)
        found = evaluate(network, halves.held_out, 256, context.device, context.dataset.task)
        record = FinalistRecord(
            choice=choice_of(structure), steps=recipe.total, loss=found.loss, accuracy=found.accuracy
        )
        context.store.put(key, record)
        return record

    def _student(self, context: Context, structure: Structure, weights: Mapping[str, Tensor]) -> StudentRecord:
        """Train the chosen design to the end and write its weights."""
        parts = parts_of(context.dataset, context.seed)
        way = replace(self.finetune, epochs=self.epochs)
        recipe = way.recipe(context, self._name("student", structure), size(parts.fit))
        state, _ = way.train(context, self._start(context, structure, weights), recipe, parts)
        assert state.found is not None, "the start was offered"
        return StudentRecord(
            file=STUDENT,
            choice=choice_of(structure),
            epochs=state.epoch,
            held_out_accuracy=state.found.accuracy,
            digest=context.store.save_tensors(STUDENT, state.best),
            structure=str(structure),
        )

    def _name(self, what: str, structure: Structure) -> str:
        return f"{what}/{structure}/{'inherited' if self.inherit else 'from nothing'}"


def _winner(design: DesignRecord, structure: Structure) -> WinnerRecord:
    return WinnerRecord(
        index=design.index,
        choice=choice_of(structure),
        objective=design.loss_change,
        bound=design.bound,
        predicted_ms=design.predicted_ratio * design.teacher_ms,
        measured_ms=design.measured_ms,
        teacher_ms=design.teacher_ms,
        estimated=design.estimated,
    )
