"""Train one set of shared weights that every student of several budgets and targets is cut out of (DepS, OFA).

Schedules are data (``schedule.py``). By default students learn the teacher's features at every block's border, in turn,
without labels; DepS (ECCV 2024), BigNAS, OFA's order and RSS are there to compare with, and to train from nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch.utils.data import Subset

from ...op_library.families.slices import Slice
from ...op_library.pools import operation as find_operation
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Decay, Factor, PassResult, Positive, Share, Work, one_of, setting
from ...transformer.data.images import size
from ...transformer.errors import UsageError
from ..candidates.records import OperationRecord
from ..finetuning.align import RATE, AlignPass
from ..finetuning.examine import Parts, parts_of, spread
from ..finetuning.recipe import OPTIMIZERS, RATES, AlignRecipe, FinetuneRecipe, automatic_epochs
from ..finetuning.state import FinetuneState
from ..finetuning.train import Training
from ..finetuning.training_pass import TrainingPass, work_of
from ..networks.assemble import CandidateWeights
from ..networks.placement import placed
from ..pretraining.engine import variances
from ..pretraining.records import CandidateRecord
from ..ranking.records import WinnerRecord
from .examine import StudentsExaminer
from .lesson import SharedFeatures, SharedLabels
from .network import SharedNetwork
from .plan import DRAWS, Plan
from .recipe import SharedAlignRecipe, SharedLabelsRecipe
from .records import SharedRecord
from .schedule import SCHEDULES, TEACHERS, Schedule, adjusted

SHARED = "shared/network.safetensors"
_SCALE_SAMPLES = 512
STARTS = ("teacher", "none")
PATHS = ("auto", "front", "any")
_LONGER = 1.5
"""Times the epochs of one student: each of many students has its turn less often."""
Choices = Mapping[str, Mapping[str, str]]
"""Student -> block -> operation."""
SharedRecipe = SharedAlignRecipe | SharedLabelsRecipe


@dataclass(frozen=True)
class ShrinkPass(TrainingPass):
    """Write the weights that the named students share; each epoch is a unit of work, stopped and gone on with.

    The full network is one of the students where the schedule trains it. What a student is cut out with are the bits
    that it had in training, its batch norms aside, which are estimated anew for each.
    """

    name: ClassVar[str] = "shrink"
    requires: ClassVar[tuple[str, ...]] = ("candidate", "operation")
    ensures: ClassVar[tuple[str, ...]] = ("shared",)
    file: ClassVar[str] = SHARED

    students: tuple[str, ...] = ()
    """Names of the run's students to train; each has a winner of its own."""
    shared: bool = setting(True, decides=False)
    """False to train each student alone, as without this pass: the baseline."""
    schedule: Annotated[str, one_of(SCHEDULES)] = "align"
    """``align``, ``front``, ``deps``, ``sandwich``, ``progressive`` or ``random``."""
    start: Annotated[str, one_of(STARTS)] = "teacher"
    """``none`` draws all weights anew; DepS then trains the full network alone for half of the steps."""
    paths: Annotated[str, one_of(PATHS)] = "auto"
    """``front`` trains the named students, ``any`` whatever can be made of the trained operations; ``auto`` is ``any``
    where all of them are made of the block's own weights."""
    draw: Annotated[str, one_of(DRAWS)] = "budget"
    """How students are drawn: at costs spread evenly, or ``uniform`` over all there are."""
    draws: Amount | None = None
    """Students drawn a step."""
    delay: Share | None = None
    """Share of the steps in which the full network is trained alone; of ``deps`` 0.5 from nothing, else 0."""
    ramp: Share | None = None
    """Share of the steps after the delay in which the students' gradients fade in (epsilon)."""
    teach: Annotated[str, one_of(TEACHERS)] | None = None
    """Who teaches the students: ``full``, the frozen ``teacher``, ``none``."""
    labels: Factor | None = None
    """Factor of the students' loss on labels."""
    epochs: Amount | None = None
    """By default 1.5 times those of one student's ``finetune``, however many students there are."""
    align_epochs: Amount | None = None
    """Epochs on features before them, of the schedule ``align``; by default 1.5 times those of ``align``."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all processes together; by default 64, on features as of ``align``."""
    learning_rate: Positive | None = None
    """Highest rate; by default the highest that a trial of a few steps bears. That on features always is."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = FinetuneRecipe.optimizer
    weight_decay: Factor = FinetuneRecipe.weight_decay
    warmup: Share = FinetuneRecipe.warmup
    label_smoothing: Decay = FinetuneRecipe.label_smoothing
    teacher_share: Share = AlignRecipe.teacher_share
    """Of ``align``: share of the rate for blocks whose own weights no slice uses."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together."""
        schedule = self.effective()
        if schedule.aligned and self.start == "none":
            raise UsageError(
                "shrink.start=none and shrink.schedule=align do not go together: from nothing there are no features to "
                "begin with; give --set shrink.schedule=deps"
            )
        if schedule.teach == "full" and not all(phase.full for phase in schedule.phases):
            raise UsageError(
                "shrink.teach=full needs a schedule that trains the full network in each step: deps or sandwich"
            )

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone, or are not those of the students' selections."""
        record = context.store.get(SharedRecord, "shared")
        if record is None or not context.store.path(record.file).is_file():
            return f"{SHARED} is missing"
        if any(record.lacking(choice) for choice in self.choices(context).values()):
            return "other selections have won since"
        return ""

    def work(self, context: Context) -> Work:
        """Count the steps."""
        parts = parts_of(context.dataset, context.seed)
        return work_of(self._recipes(context, parts, self.choices(context))[1], context)

    def effective(self) -> Schedule:
        """Return the schedule with this pass's options; a trained teacher's full network need not be trained first."""
        delay = 0.0 if self.delay is None and self.schedule == "deps" and self.start == "teacher" else self.delay
        return adjusted(SCHEDULES[self.schedule], delay, self.draws, self.ramp, self.teach, self.labels)

    def choices(self, context: Context) -> dict[str, dict[str, str]]:
        """Return the selection of each student.

        Raises:
            UsageError: none are named, or one has no winner.
        """
        if not self.students:
            raise UsageError("shrink has no students to train; hant-opt shrink RUN --budgets 0.3,0.45,0.6 names them")
        found = {}
        for name in self.students:
            winner = context.store.of(name).get(WinnerRecord, "winner")
            if winner is None:
                run = context.store.root
                raise UsageError(f"student {name} has no winner yet; run: hant-opt rank {run} --student {name}")
            found[name] = winner.choice
        return found

    def run(self, context: Context) -> PassResult:
        """Train the epochs that are not yet done."""
        choices, parts = self.choices(context), parts_of(context.dataset, context.seed)
        aligning, recipe = self._recipes(context, parts, choices)
        operations = {block: [name for name, _ in costs] for block, costs in recipe.plan.operations}
        seed = context.seed if self.start == "none" else None
        shared = SharedNetwork(context.teacher, operations, CandidateWeights(context.store), seed)
        shared.network.to(context.device)
        shared.graph.module.to(context.device)
        stopped, seconds, aligned = "", 0.0, 0
        if aligning.epochs:
            state, stopped = self._align(context, shared, aligning, choices, parts)
            seconds, aligned = sum(row["seconds"] for row in state.history), state.epoch
            shared.network.load_state_dict(state.best)
        for parameter in shared.network.parameters():  # alignment leaves stem and head alone
            parameter.requires_grad_(parameter.is_floating_point())
        state, again, accuracies = self._train(context, shared, recipe, choices, parts)
        record = SharedRecord(
            file=SHARED,
            digest=context.store.save_tensors(SHARED, state.best),
            students=choices,
            operations=operations,
            schedule=self.schedule,
            drawn=self.start == "none",
            start=recipe.start,
            recipe=recipe.fingerprint,
            epochs=aligned + state.epoch,
            steps=aligned * aligning.steps + state.epoch * recipe.steps,
            cost=_cost(aligning, aligned) + _cost(recipe, state.epoch),
            seconds=seconds + sum(row["seconds"] for row in state.history),
            accuracies=accuracies,
        )
        context.store.put("shared", record)
        return PassResult(notes=tuple(filter(None, (self._note(context, record), stopped, again))))

    def epochs_together(self, context: Context) -> float:
        """Return what the training will cost, in epochs of the full network."""
        recipes = self._recipes(context, parts_of(context.dataset, context.seed), self.choices(context))
        return sum(_cost(recipe, recipe.epochs) for recipe in recipes)

    def _training(
        self, context: Context, shared: SharedNetwork, recipe: SharedRecipe, choices: Choices, parts: Parts
    ) -> tuple[Training, StudentsExaminer]:
        labels, answers = recipe.judged
        examiner = StudentsExaminer(
            context, shared, choices, parts, augment=recipe.augment, labels=labels, answers=answers
        )
        return Training(context, recipe, parts, self.workers, self.save_seconds, examiner=examiner), examiner

    def _align(
        self, context: Context, shared: SharedNetwork, recipe: SharedAlignRecipe, choices: Choices, parts: Parts
    ) -> tuple[FinetuneState, str]:
        """Train the shared network on features from where the run has it."""
        teacher = context.teacher
        with placed(context.device, teacher.module):
            sample = Subset(parts.fit, spread(size(parts.fit), _SCALE_SAMPLES))
            scale = variances(teacher, sample, recipe.batch_size, context.device)
        lesson = SharedFeatures(shared, teacher, scale, recipe.plan, recipe.teacher_share)
        training, _ = self._training(context, shared, recipe, choices, parts)
        return training.run(shared.network, lesson, partial(recipe.make_optimizer, lesson.blocks))

    def _train(
        self, context: Context, shared: SharedNetwork, recipe: SharedLabelsRecipe, choices: Choices, parts: Parts
    ) -> tuple[FinetuneState, str, dict[str, float]]:
        """Train it on labels and answers; return each student's accuracy in the best state too."""
        schedule = recipe.plan.schedule
        taught = 0.0 if schedule.teach == "none" else 1.0
        others = replace(recipe, cross_entropy=schedule.labels, distillation=taught)
        lesson = SharedLabels(shared, context.teacher.network, context.dataset.task, recipe.plan, recipe, others)
        training, examiner = self._training(context, shared, recipe, choices, parts)
        state, stopped = training.run(
            shared.network, lesson, lambda: recipe.make_optimizer(shared.network.parameters())
        )
        if state.best_epoch:
            row = state.history[state.best_epoch - 1]
            return state, stopped, {name: row[name] for name in choices}
        shared.network.load_state_dict(state.best)
        examiner.examine(shared.network, training.parallel)
        return state, stopped, examiner.accuracies()

    def _recipes(
        self, context: Context, parts: Parts, choices: Choices
    ) -> tuple[SharedAlignRecipe, SharedLabelsRecipe]:
        """Return how to train the students of ``choices``: on features first, then on labels."""
        self.check(context)
        schedule, samples, costs = self.effective(), size(parts.fit), self._costs(context, choices)
        start = _start(context, costs)
        common: dict[str, Any] = {
            "momentum": self.momentum,
            "augment": self.augment,
            "parts": self.parts,
            "mixed_precision": self.mixed_precision,
            "task": context.dataset.task.name,
            "seed": context.seed,
        }
        usual = AlignPass(batch_size=self.batch_size).recipe(context, start, parts)
        epochs = math.ceil(_LONGER * usual.epochs) if self.align_epochs is None else self.align_epochs
        epochs = epochs if schedule.aligned else 0
        aligning = SharedAlignRecipe(
            epochs=epochs,
            steps=usual.steps,
            batch_size=usual.batch_size,
            learning_rate=RATE,
            tried=True,
            teacher_share=self.teacher_share,
            channels_last=usual.channels_last,
            plan=self._plan(context, choices, costs, usual.steps * epochs),
            start=start,
            **common,
        )
        batch_size = min(self.batch_size or 64, samples)
        automatic = math.ceil(_LONGER * automatic_epochs(samples, epochs > 0))
        epochs, steps = automatic if self.epochs is None else self.epochs, samples // max(1, batch_size)
        recipe = SharedLabelsRecipe(
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=RATES[self.optimizer] if self.learning_rate is None else self.learning_rate,
            tried=self.learning_rate is None,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
            distillation=0.0 if self.start == "none" else 1.0,
            plan=self._plan(context, choices, costs, steps * epochs),
            start=f"{start}/{aligning.fingerprint}" if aligning.epochs else start,
            **common,
        )
        aligning.check()
        recipe.check()
        return aligning, recipe

    def _plan(
        self,
        context: Context,
        choices: Choices,
        costs: Mapping[str, Mapping[str, int]],
        total: int,
    ) -> Plan:
        inside = sum(operations["teacher"] for operations in costs.values())
        front = {tuple(sorted((block, choice.get(block, "teacher")) for block in costs)) for choice in choices.values()}
        return Plan(
            schedule=self.effective(),
            total=total,
            front=tuple(sorted(front)),
            operations=tuple((block, tuple(operations.items())) for block, operations in costs.items()),
            outside=max(0, context.teacher.macs - inside),
            any=self._any(context),
            draw=self.draw,
            seed=context.seed,
        )

    def _any(self, context: Context) -> bool:
        """Return whether any students are drawn: by default where all that there is shares the block's own weights."""
        ready = {r.operation for r in context.store.all(CandidateRecord).values() if r.state == "ready"}
        return self.paths == "any" or (self.paths == "auto" and all(map(shares_weights, ready)))

    def _costs(self, context: Context, choices: Choices) -> dict[str, dict[str, int]]:
        """Return the operations that are trained, with their MACs: block -> operation -> MACs of one image."""
        listed, ready = context.store.all(OperationRecord), context.store.all(CandidateRecord)
        found, every = {}, self._any(context)
        for block in context.teacher.replaceable:
            used = {"teacher", *(choice.get(block.name, "teacher") for choice in choices.values())}
            if every:
                used |= {r.operation for r in ready.values() if r.block == block.name and r.state == "ready"}
            if len(used) > 1:
                found[block.name] = {name: listed[f"{block.name}/{name}"].macs for name in sorted(used)}
        return found

    def _note(self, context: Context, record: SharedRecord) -> str:
        told = ", ".join(f"{name} {context.metric.text(value)}" for name, value in record.accuracies.items())
        return f"{record.steps} steps, {record.cost:.1f} epochs of the full network; held out: {told}"


def shares_weights(operation: str) -> bool:
    """Return whether an operation has no weights besides the block's own."""
    spec = find_operation(operation)
    return spec.weightless or isinstance(spec, Slice)


def _start(context: Context, costs: Mapping[str, Mapping[str, int]]) -> str:
    """Return a hash of how the candidates were trained that the training begins from."""
    records = context.store.all(CandidateRecord)
    keys = [f"{block}/{name}" for block, operations in costs.items() for name in operations]
    parts = {key: records[key].recipe for key in keys if key in records}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _cost(recipe: SharedRecipe, epochs: int) -> float:
    """Return what so many epochs cost, in epochs of the full network."""
    return recipe.plan.passes(epochs * recipe.steps) / max(1, recipe.steps)
