"""Train one set of shared weights that every student of several budgets and targets is cut out of (DepS, OFA).

Schedules are data (``schedule.py``). By default students learn the teacher's features at every block's border, in turn,
without labels; DepS (ECCV 2024), BigNAS, OFA's order and RSS are there to compare with, and to train from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch.utils.data import Subset

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import PassResult, Work
from ...transformer.data.images import size
from ...transformer.errors import UsageError
from ..finetuning.examine import Parts, parts_of, spread
from ..finetuning.state import FinetuneState
from ..finetuning.train import Training
from ..finetuning.training_pass import work_of
from ..networks.assemble import CandidateWeights
from ..networks.placement import placed
from ..pretraining.engine import variances
from ..ranking.records import WinnerRecord
from .examine import StudentsExaminer
from .lesson import SharedFeatures, SharedLabels
from .network import SharedNetwork
from .options import Choices, SharedOptions, SharedRecipe
from .plan import pairs, probes
from .recipe import SharedAlignRecipe, SharedLabelsRecipe
from .records import SharedRecord

SHARED = "shared/network.safetensors"
_SCALE_SAMPLES = 512


@dataclass(frozen=True)
class ShrinkPass(SharedOptions):
    """Write the weights that the students share; each epoch is a unit of work, stopped and gone on with.

    The full network is one of the students where the schedule trains it. What a student is cut out with are the bits
    that it had in training, its batch norms aside, which are estimated anew for each.
    """

    name: ClassVar[str] = "shrink"
    requires: ClassVar[tuple[str, ...]] = ("candidate", "operation")
    ensures: ClassVar[tuple[str, ...]] = ("shared",)
    file: ClassVar[str] = SHARED

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
        return work_of(self.recipes(context, parts, self.choices(context))[1], context)

    def choices(self, context: Context) -> dict[str, dict[str, str]]:
        """Return the students that states are compared by: those that are named, or some where any are trained.

        Raises:
            UsageError: none are named, or one has no winner.
        """
        if self.any(context):
            full = any(phase.full for phase in self.effective.phases)
            return probes(pairs(self.costs(context, {})), full)
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
        aligning, recipe = self.recipes(context, parts, choices)
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
            schedule=self.schedule_name,
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
        return PassResult(notes=tuple(filter(None, (_note(context, record), stopped, again))))

    def epochs_together(self, context: Context) -> float:
        """Return what the training will cost, in epochs of the full network."""
        recipes = self.recipes(context, parts_of(context.dataset, context.seed), self.choices(context))
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


def _note(context: Context, record: SharedRecord) -> str:
    told = ", ".join(f"{name} {context.metric.text(value)}" for name, value in record.accuracies.items())
    return f"{record.steps} steps, {record.cost:.1f} epochs of the full network; held out: {told}"


def _cost(recipe: SharedRecipe, epochs: int) -> float:
    """Return what so many epochs cost, in epochs of the full network."""
    return recipe.plan.passes(epochs * recipe.steps) / max(1, recipe.steps)
