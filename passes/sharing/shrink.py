"""Train one set of shared weights that every student of several budgets and targets is cut out of (DepS, OFA).

Schedules are data (``schedule.py``). By default students learn the teacher's features at every block's border, in turn,
without labels; DepS (ECCV 2024), BigNAS, OFA's order and RSS are there to compare with, and to train from nothing.
"""

from __future__ import annotations

import hashlib
import json
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
from ...transformer.data.images import batches, size
from ...transformer.errors import UsageError
from ..candidates.records import OperationRecord
from ..finetuning.align import RATE, AlignPass
from ..finetuning.examine import Parts, parts_of, spread
from ..finetuning.lesson import Lesson
from ..finetuning.parallel import Parallel
from ..finetuning.recipe import OPTIMIZERS, RATES, AlignRecipe, FinetuneRecipe, aligning_epochs, automatic_epochs
from ..finetuning.state import FinetuneState
from ..finetuning.train import Training
from ..finetuning.training_pass import TrainingPass, work_of
from ..networks.assemble import CandidateWeights
from ..networks.placement import placed
from ..pretraining.engine import takes_channels_last, variances
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
    """By default twice the epochs of one student's ``align``, or as many as of ``finetune``, however many students."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all processes together."""
    learning_rate: Positive | None = None
    """Highest rate; by default the highest that a trial of a few steps bears."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = FinetuneRecipe.optimizer
    weight_decay: Factor = FinetuneRecipe.weight_decay
    warmup: Share = FinetuneRecipe.warmup
    label_smoothing: Decay = FinetuneRecipe.label_smoothing
    teacher_share: Share = AlignRecipe.teacher_share
    """Of ``align``: share of the rate for blocks whose own weights no slice uses."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together."""
        schedule = self.effective()
        if schedule.features and self.start == "none":
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
        return work_of(self._recipe(context, parts, self.choices(context))[0], context)

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
        recipe, plan = self._recipe(context, parts, choices)
        operations = {block: [name for name, _ in costs] for block, costs in plan.operations}
        seed = context.seed if self.start == "none" else None
        shared = SharedNetwork(context.teacher, operations, CandidateWeights(context.store), seed)
        examiner = StudentsExaminer(
            context, shared, choices, parts, augment=recipe.augment, labels=recipe.judged[0], answers=recipe.judged[1]
        )
        state, stopped = self._train(context, shared, recipe, plan, parts, examiner)
        digest = context.store.save_tensors(SHARED, state.best)
        if state.best_epoch:
            best = state.history[state.best_epoch - 1]
        else:
            shared.network.load_state_dict(state.best)
            examiner.examine(shared.network, Parallel(context.device))
            best = examiner.accuracies()
        record = SharedRecord(
            file=SHARED,
            digest=digest,
            students=choices,
            operations=operations,
            schedule=self.schedule,
            drawn=self.start == "none",
            start=recipe.start,
            recipe=recipe.fingerprint,
            epochs=state.epoch,
            steps=state.epoch * recipe.steps,
            cost=plan.passes(state.epoch * recipe.steps) / max(1, recipe.steps),
            seconds=sum(row["seconds"] for row in state.history),
            accuracies={name: best[name] for name in choices},
        )
        context.store.put("shared", record)
        return PassResult(notes=tuple(filter(None, (self._note(context, record), stopped))))

    def epochs_together(self, context: Context) -> float:
        """Return what the training will cost, in epochs of the full network."""
        recipe, plan = self._recipe(context, parts_of(context.dataset, context.seed), self.choices(context))
        return plan.passes(recipe.total) / max(1, recipe.steps)

    def _train(
        self,
        context: Context,
        shared: SharedNetwork,
        recipe: SharedAlignRecipe | SharedLabelsRecipe,
        plan: Plan,
        parts: Parts,
        examiner: StudentsExaminer,
    ) -> tuple[FinetuneState, str]:
        """Train the shared network from where the run has it."""
        shared.network.to(context.device)
        shared.graph.module.to(context.device)
        training = Training(context, recipe, parts, self.workers, self.save_seconds, examiner=examiner)
        lesson: Lesson
        if isinstance(recipe, SharedAlignRecipe):
            teacher = context.teacher
            with placed(context.device, teacher.module):
                sample = Subset(parts.fit, spread(size(parts.fit), _SCALE_SAMPLES))
                scale = variances(teacher, sample, recipe.batch_size, context.device)
            features = SharedFeatures(shared, teacher, scale, plan, recipe.teacher_share)
            return training.run(shared.network, features, partial(recipe.make_optimizer, features.blocks))
        others = replace(
            recipe,
            cross_entropy=plan.schedule.labels,
            distillation=0.0 if plan.schedule.teach == "none" else 1.0,
        )
        lesson = SharedLabels(shared, context.teacher.network, context.dataset.task, plan, recipe, others)
        return training.run(shared.network, lesson, lambda: recipe.make_optimizer(shared.network.parameters()))

    def _recipe(
        self, context: Context, parts: Parts, choices: Mapping[str, Mapping[str, str]]
    ) -> tuple[SharedAlignRecipe | SharedLabelsRecipe, Plan]:
        """Return how to train the students of ``choices``."""
        self.check(context)
        samples, costs = size(parts.fit), self._costs(context, choices)
        start = _start(context, costs)
        features = self.effective().features
        usual = AlignPass().recipe(context, "", parts).batch_size if features else 64
        batch_size = min(self.batch_size or usual, samples)
        epochs = 2 * aligning_epochs(samples) if features else automatic_epochs(samples)
        common: dict[str, Any] = {
            "epochs": epochs if self.epochs is None else self.epochs,
            "steps": samples // max(1, batch_size),
            "batch_size": batch_size,
            "tried": self.learning_rate is None,
            "momentum": self.momentum,
            "augment": self.augment,
            "parts": self.parts,
            "mixed_precision": self.mixed_precision,
            "task": context.dataset.task.name,
            "seed": context.seed,
            "start": start,
        }
        total = common["steps"] * common["epochs"]
        plan = self._plan(context, choices, costs, total)
        recipe: SharedAlignRecipe | SharedLabelsRecipe
        if features:
            recipe = SharedAlignRecipe(
                learning_rate=RATE if self.learning_rate is None else self.learning_rate,
                teacher_share=self.teacher_share,
                channels_last=takes_channels_last(context.teacher, next(batches(parts.judges, 2))[0]),
                plan=plan,
                **common,
            )
        else:
            recipe = SharedLabelsRecipe(
                optimizer=self.optimizer,
                learning_rate=RATES[self.optimizer] if self.learning_rate is None else self.learning_rate,
                weight_decay=self.weight_decay,
                warmup=self.warmup,
                label_smoothing=self.label_smoothing,
                distillation=0.0 if self.start == "none" else 1.0,
                plan=plan,
                **common,
            )
        recipe.check()
        return recipe, plan

    def _plan(
        self,
        context: Context,
        choices: Mapping[str, Mapping[str, str]],
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

    def _costs(self, context: Context, choices: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, int]]:
        """Return the operations that are trained, with their MACs: block -> operation -> MACs of one image."""
        listed, ready = context.store.all(OperationRecord), context.store.all(CandidateRecord)
        found = {}
        for block in context.teacher.replaceable:
            used = {"teacher", *(choice.get(block.name, "teacher") for choice in choices.values())}
            if self._any(context):
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
