"""Train the best designs shortly, then the best of them to the end: a prediction alone never chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from torch import Tensor, nn

from ...op_library.structure import Structure
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Count, Pass, PassResult, Work, one_of
from ...transformer.contracts.progress import Progress
from ...transformer.data.images import size as count
from ...transformer.data.splits import split
from ..finetuning.examine import Parts, parts_of
from ..finetuning.finetune import STUDENT, FinetunePass
from ..finetuning.records import StudentRecord
from ..networks.evaluate import evaluate
from ..networks.resolution import Size, behind_resize
from ..ranking.records import FinalistRecord, WinnerRecord
from .inherit import fresh, varied
from .master import master_of
from .presets import PRESETS, Preset
from .records import DesignRecord
from .space import choice_of, mark
from .timing import shape_of


@dataclass(frozen=True)
class TrainPass(Pass):
    """Train finalists for a few epochs, then the one that is best on held-out images with a full schedule."""

    name: ClassVar[str] = "train"
    requires: ClassVar[tuple[str, ...]] = ("design", "master")
    ensures: ClassVar[tuple[str, ...]] = ("winner", "student")

    preset: Annotated[str, one_of(PRESETS)] = "auto"
    """Where options come from that are not given: ``auto`` or ``paper``."""
    finalists: Count | None = None
    """Of each size of images: 3, in ``paper`` 1."""
    finalist_epochs: Count | None = None
    """4, in ``paper`` 120."""
    epochs: Amount | None = None
    """Of the chosen one; ``auto`` is as many as fine-tuning has without alignment, ``paper`` 480."""
    inherit: bool | None = None
    """Begin with what fits of the MasterNet's weights, as ``auto``; else from nothing, as ``paper``."""
    finetune: FinetunePass = FinetunePass(channels_last=True)
    """How networks are trained: rates, batches, distillation from the teacher."""

    def work(self, context: Context) -> Work:
        """Count the steps of the finalists of one size of images, and of the one that goes on."""
        samples = count(parts_of(context.dataset, context.seed).fit)
        short, full = (way.recipe(context, "", samples) for way in (self._short, self._full))
        finalists = self.finalists or self._usual.finalists
        return Work(
            f"{finalists} finalists x {short.total} steps and {full.total} steps of {full.batch_size} images",
            macs=4.0 * full.batch_size * (finalists * short.total + full.total) * context.teacher.macs,
        )

    @property
    def _short(self) -> FinetunePass:
        return replace(self.finetune, epochs=self.finalist_epochs or self._usual.finalist_epochs)

    @property
    def _full(self) -> FinetunePass:
        return replace(self.finetune, epochs=self._usual.final_epochs if self.epochs is None else self.epochs)

    @property
    def _usual(self) -> Preset:
        return PRESETS[self.preset]

    @property
    def _inherits(self) -> bool:
        return self._usual.inherit if self.inherit is None else self.inherit

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone."""
        return "" if context.store.path(STUDENT).is_file() else f"{STUDENT} is missing"

    def run(self, context: Context) -> PassResult:
        """Write the student."""
        designs = self._finalists(list(context.store.all(DesignRecord).values()))
        weights = master_of(context)[1]
        with context.progress.task("train", len(designs)) as task:
            tried = []
            for design in designs:
                tried.append((self.finalist(context, Structure.parse(design.structure), weights, design.size), design))
                task.advance(1, context.metric.text(tried[-1][0].accuracy))
        best, design = max(tried, key=lambda pair: context.metric.gain(pair[0].accuracy))
        structure = Structure.parse(design.structure)
        student = self._student(context, structure, weights, design.size)
        context.store.put("winner", _winner(design, structure))
        context.store.put("student", student)
        note = f"{len(tried)} finalists of {best.steps} steps: " + ", ".join(
            f"{context.metric.text(found.accuracy)}{_at(one)} (predicted change {one.accuracy_change:+.2f})"
            for found, one in tried
        )
        return PassResult(
            notes=(
                note,
                f"{context.metric.text(student.held_out_accuracy)} on held-out images after {student.epochs} epochs",
            )
        )

    def _finalists(self, designs: Sequence[DesignRecord]) -> list[DesignRecord]:
        """Return the first designs of each size of images."""
        most = self.finalists or self._usual.finalists
        sizes = dict.fromkeys(design.size for design in designs)
        return [one for size in sizes for one in [one for one in designs if one.size == size][:most]]

    def _start(
        self, context: Context, structure: Structure, weights: Mapping[str, Tensor], size: Size | None
    ) -> nn.Module:
        network = varied(structure, weights, context.seed) if self._inherits else None
        return behind_resize(network or fresh(structure, *shape_of(context), context.seed), size)

    def finalist(
        self, context: Context, structure: Structure, weights: Mapping[str, Tensor], size: Size | None = None
    ) -> FinalistRecord:
        """Return what a design reaches in a few epochs, on images of its size; a finished one is not trained again."""
        halves = split(context.dataset, context.seed)
        parts = Parts(halves.fit, halves.held_out)
        way = self._short
        recipe = way.recipe(context, self._name("finalist", structure, size), count(parts.fit))
        key = hashlib.sha256(f"{structure}/{recipe.fingerprint}".encode()).hexdigest()[:24]
        known = context.store.get(FinalistRecord, key)
        if known is not None:
            return known
        network = self._start(context, structure, weights, size)
        silent = replace(context, progress=Progress())
        state, _ = way.train(silent, network, recipe, parts, durable=False)
        network.load_state_dict(state.best)
        found = evaluate(network, halves.held_out, 256, context.device, context.dataset.task)
        record = FinalistRecord(
            choice=choice_of(structure, size), steps=recipe.total, loss=found.loss, accuracy=found.accuracy
        )
        context.store.put(key, record)
        return record

    def _student(
        self, context: Context, structure: Structure, weights: Mapping[str, Tensor], size: Size | None
    ) -> StudentRecord:
        """Train the chosen design to the end and write its weights."""
        parts = parts_of(context.dataset, context.seed)
        way = self._full
        recipe = way.recipe(context, self._name("student", structure, size), count(parts.fit))
        state, _ = way.train(context, self._start(context, structure, weights, size), recipe, parts)
        assert state.found is not None, "the start was offered"
        return StudentRecord(
            file=STUDENT,
            choice=choice_of(structure, size),
            epochs=state.epoch,
            held_out_accuracy=state.found.accuracy,
            digest=context.store.save_tensors(STUDENT, state.best),
            structure=str(structure),
            size=size,
        )

    def _name(self, what: str, structure: Structure, size: Size | None) -> str:
        at = "" if size is None else f" at {mark(size)}"
        return f"{what}/{structure}{at}/{'inherited' if self._inherits else 'from nothing'}"


def _at(design: DesignRecord) -> str:
    return "" if design.size is None else f" at {mark(design.size)}"


def _winner(design: DesignRecord, structure: Structure) -> WinnerRecord:
    return WinnerRecord(
        index=design.index,
        choice=choice_of(structure, design.size),
        objective=design.loss_change,
        bound=design.bound,
        predicted_ms=design.predicted_ratio * design.teacher_ms,
        measured_ms=design.measured_ms,
        teacher_ms=design.teacher_ms,
        estimated=design.estimated,
    )
