"""Train the winner as a whole to give the teacher's features at the border of every block, before labels are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field
from torch.utils.data import Subset

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, PassResult, Positive, Share, Work
from ...transformer.data.images import batches, size
from ...transformer.ir.graph import Graph
from ..networks.placement import placed
from ..pretraining.engine import takes_channels_last, variances
from .examine import Found, Parts, parts_of, spread
from .features import Features
from .recipe import AlignRecipe, aligning_epochs
from .records import AlignmentRecord
from .start import start_of, student
from .state import FinetuneState
from .train import Training
from .training_pass import TrainingPass, winning_choice, work_of

ALIGNED = "checkpoints/aligned.safetensors"
_SCALE_SAMPLES = 512
"""Images that the variance of a block's output is taken from, at most."""
RATE = 0.2
"""Highest rate that is tried."""
_MANY = 10_000
"""Images from which on batches are large."""


@dataclass(frozen=True)
class AlignPass(TrainingPass):
    """Write the weights that fine-tuning starts from: those of the epoch that diverges least from the teacher.

    The loss is the error at all borders together, gradients go through the whole student, and no label is looked at
    (``finetuning/features.py``): so it is for every task, on all training images but those that judge. Each block was
    trained on the teacher's features and meets others in the student; this mends most of what that costs, in few steps.
    Stopped, gone on with and shared by processes as fine-tuning is.
    """

    name: ClassVar[str] = "align"
    requires: ClassVar[tuple[str, ...]] = ("winner", "candidate")
    ensures: ClassVar[tuple[str, ...]] = ("alignment",)
    file: ClassVar[str] = ALIGNED
    written: ClassVar[type[AlignmentRecord]] = AlignmentRecord

    epochs: Amount | None = None
    """0 leaves the weights as pretrained; by default 2, of small data sets more."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all processes together; by default 16, where the data are many 64."""
    learning_rate: Positive | None = None
    """Length of a step of each block: rises shortly, is constant to the middle, falls to 0. By default the highest that
    a trial of a few steps bears, up to 0.2."""
    teacher_share: Share = AlignRecipe.teacher_share
    """Share of the rate that blocks get which are the teacher's own; 0 leaves them as they are."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together, or with the number of images."""
        if context.data is not None and context.graph is not None:
            self.recipe(context, "", parts_of(context.data, context.seed))

    def work(self, context: Context) -> Work:
        """Count the steps."""
        return work_of(self.recipe(context, "", parts_of(context.dataset, context.seed)), context)

    def run(self, context: Context) -> PassResult:
        """Train the epochs that are not yet done."""
        choice = winning_choice(context)
        start = start_of(context, choice, "all")
        graph, parts = student(context, choice), parts_of(context.dataset, context.seed)
        recipe = self.recipe(context, start, parts)
        if not replaced(choice):
            recipe = replace(recipe, epochs=0)  # nothing differs from the teacher
        state, stopped = self.train(context, graph, choice, recipe, parts)
        digest = context.store.save_tensors(ALIGNED, state.best)
        record = AlignmentRecord(
            file=ALIGNED,
            choice=choice,
            start=start,
            recipe=recipe.fingerprint,
            epochs=state.epoch,
            held_out_accuracy=_needed(state.found).accuracy,
            digest=digest,
        )
        context.store.put("alignment", record)
        return PassResult(notes=tuple(filter(None, (_note(context, state, recipe), stopped))))

    def train(
        self,
        context: Context,
        graph: Graph,
        choice: Mapping[str, str],
        recipe: AlignRecipe,
        parts: Parts,
        durable: bool = True,
    ) -> tuple[FinetuneState, str]:
        """Align the student ``graph`` of ``choice`` from where the run has it.

        Returns the last state, which holds the best weights, and why it stopped early, or nothing.
        """
        teacher, device = context.teacher, context.device
        graph.module.to(device)
        graph.network.to(device)
        with placed(device, teacher.module):
            sample = Subset(parts.fit, spread(size(parts.fit), _SCALE_SAMPLES))
            scale = variances(teacher, sample, recipe.batch_size, device)
        lesson = Features(graph, teacher, scale, replaced(choice), recipe.teacher_share)
        if not lesson.blocks:
            recipe = replace(recipe, epochs=0)
        training = Training(context, recipe, parts, self.workers, self.save_seconds, durable)
        return training.run(graph.network, lesson, partial(recipe.make_optimizer, lesson.blocks))

    def recipe(self, context: Context, start: str, parts: Parts) -> AlignRecipe:
        """Return how to train; ``start`` tells this training from others of the run."""
        samples = size(parts.fit)
        batch_size = min(self.batch_size or (16 if samples < _MANY else 64), samples)
        recipe = AlignRecipe(
            epochs=aligning_epochs(samples) if self.epochs is None else self.epochs,
            steps=samples // max(1, batch_size),
            batch_size=batch_size,
            learning_rate=RATE if self.learning_rate is None else self.learning_rate,
            tried=self.learning_rate is None,
            momentum=self.momentum,
            teacher_share=self.teacher_share,
            augment=self.augment,
            parts=self.parts,
            mixed_precision=self.mixed_precision,
            channels_last=takes_channels_last(context.teacher, next(batches(parts.judges, 2))[0]),
            task=context.dataset.task.name,
            seed=context.seed,
            start=start,
        )
        recipe.check()
        return recipe


def replaced(choice: Mapping[str, str]) -> frozenset[str]:
    """Return the blocks of a choice that are not the teacher's."""
    return frozenset(block for block, operation in choice.items() if operation != "teacher")


def _needed(found: Found | None) -> Found:
    assert found is not None, "the start was offered"
    return found


def _note(context: Context, state: FinetuneState, recipe: AlignRecipe) -> str:
    start, found = _needed(state.start), _needed(state.found)
    accuracy = f"{context.metric.text(start.accuracy)} -> {context.metric.text(found.accuracy)} on held-out images"
    divergence = f"divergence from the teacher {start.divergence:.4g} -> {found.divergence:.4g}"
    return f"{accuracy}, {divergence}, after epoch {state.best_epoch} of {recipe.epochs}"
