"""Train the winner as a whole: cross-entropy plus distillation from the teacher.

HANT section 2.2, "Candidate architecture fine-tuning", and A.1: gamma_CE = gamma_KL = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Decay, Factor, PassResult, Positive, Share, Work, one_of
from ...transformer.data.images import size
from ...transformer.errors import UsageError
from .examine import Parts, parts_of
from .labels import Labels
from .recipe import OPTIMIZERS, PRELOADS, PRESETS, RATES, FinetuneRecipe, automatic_epochs, known, preset_of
from .records import AlignmentRecord, StudentRecord
from .start import start_of, student
from .state import FinetuneState
from .train import Training
from .training_pass import TrainingPass, winning_choice, work_of

STUDENT = "checkpoints/student.safetensors"
LAST = "checkpoints/student-last.safetensors"


@dataclass(frozen=True)
class FinetunePass(TrainingPass):
    """Write the student: the best weights on held-out training images; the last ones beside them.

    An epoch is a unit of work, and a long one is saved in between: a stopped run continues after the last save, on a
    CPU to the same bits. Started by ``accelerate launch`` or ``torchrun``, the processes share each batch: they
    train on the same batches as one process does, and the main one writes. A loss that is no number ends the training;
    the best weights before it are kept.
    """

    name: ClassVar[str] = "finetune"
    requires: ClassVar[tuple[str, ...]] = ("winner", "candidate", "alignment")
    ensures: ClassVar[tuple[str, ...]] = ("student",)
    file: ClassVar[str] = STUDENT
    written: ClassVar[type[StudentRecord]] = StudentRecord

    preset: Annotated[str, one_of(PRESETS)] = "auto"
    """Where epochs, batch size and rate come from if not given: ``auto``, ``paper-b2``, ``paper-b4``, ``paper-b6``."""
    epochs: Amount | None = None
    """0 keeps the weights as they are; by default 1 to 10, by the size of the data, without alignment 10 to 15."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all processes together."""
    preload: Annotated[str, one_of(PRELOADS)] = "all"
    """Weights to start from: ``all``, ``teacher`` (candidates untrained) or ``none`` (HANT table 6)."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = FinetuneRecipe.optimizer
    """``sgd`` or ``adamw``."""
    learning_rate: Positive | None = None
    """Rises over ``warmup`` of all steps, then falls as a cosine. By default, where no preset says it, the highest that
    a trial of a few steps bears with so many steps to come, up to 0.05 of ``sgd`` and 0.002 of ``adamw``."""
    weight_decay: Factor = FinetuneRecipe.weight_decay
    warmup: Share = FinetuneRecipe.warmup
    """Share of all steps in which the rate rises; then it falls as a cosine."""
    label_smoothing: Decay = FinetuneRecipe.label_smoothing
    cross_entropy: Factor = FinetuneRecipe.cross_entropy
    """Factor of the cross-entropy (gamma_CE)."""
    distillation: Factor = FinetuneRecipe.distillation
    """Factor of the KL divergence to the teacher (gamma_KL)."""
    ema: Decay = FinetuneRecipe.ema
    """Decay a step of a moving average of the weights, such as 0.999; 0 for none."""
    channels_last: bool = FinetuneRecipe.channels_last
    """Keep the channels of images and weights together in memory: faster on GPUs in mixed precision."""
    compiled: bool = FinetuneRecipe.compiled
    """Run student and teacher through ``torch.compile``; one process only."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together, or with the number of images."""
        if context.data is not None:
            self.recipe(context, "", size(parts_of(context.data, context.seed).fit))

    def work(self, context: Context) -> Work:
        """Count the steps."""
        samples = size(parts_of(context.dataset, context.seed).fit)
        return work_of(self.recipe(context, "", samples, aligned=True), context)

    def run(self, context: Context) -> PassResult:
        """Train the epochs that are not yet done."""
        choice = winning_choice(context)
        parts = parts_of(context.dataset, context.seed)
        recipe, network = self._start(context, choice, size(parts.fit))
        state, stopped = self.train(context, network, recipe, parts)
        context.store.save_tensors(LAST, state.last)
        digest = context.store.save_tensors(STUDENT, state.best)
        found = state.found
        assert found is not None, "the start was offered"
        record = StudentRecord(
            file=STUDENT, choice=choice, epochs=state.epoch, held_out_accuracy=found.accuracy, digest=digest
        )
        context.store.put("student", record)
        return PassResult(notes=tuple(filter(None, (*_notes(context, state, recipe), stopped))))

    def _start(self, context: Context, choice: Mapping[str, str], samples: int) -> tuple[FinetuneRecipe, nn.Module]:
        """Return how to train the student of ``choice``, and its network: aligned, if the run has it so."""
        known("preloading", self.preload, PRELOADS)
        start = start_of(context, choice, self.preload)
        aligned = context.store.get(AlignmentRecord, "alignment")
        if aligned is None or aligned.start != start:
            recipe = self.recipe(context, start, samples)
            return recipe, student(context, choice, self.preload).network
        recipe = self.recipe(context, f"{start}/{aligned.recipe}", samples, aligned.epochs > 0)
        network = student(context, choice).network
        network.load_state_dict(context.store.load_tensors(aligned.file, digest=aligned.digest))
        return recipe, network

    def train(
        self, context: Context, network: nn.Module, recipe: FinetuneRecipe, parts: Parts, durable: bool = True
    ) -> tuple[FinetuneState, str]:
        """Train any ``network`` from where the run has it, with the context's teacher and data.

        Returns the last state, which holds the best weights, and why it stopped early, or nothing.
        """
        training = Training(context, recipe, parts, self.workers, self.save_seconds, durable)
        if self.compiled and training.parallel.count > 1:
            raise UsageError("finetune.compiled=true works in one process only; leave it out, or start one process")
        network = network.to(context.device)
        lesson = Labels(network, context.teacher.network, context.dataset.task, recipe)
        return training.run(network, lesson, lambda: recipe.make_optimizer(network.parameters()))

    def recipe(self, context: Context, start: str, samples: int, aligned: bool = False) -> FinetuneRecipe:
        """Return how to train on ``samples`` images; ``start`` tells this training from others of the run."""
        known("optimizer", self.optimizer, RATES)
        preset = preset_of(self.preset)
        rate = preset.learning_rate if self.learning_rate is None else self.learning_rate
        epochs = preset.epochs if self.epochs is None else self.epochs
        batch_size = min(preset.batch_size if self.batch_size is None else self.batch_size, samples)
        recipe = FinetuneRecipe(
            epochs=automatic_epochs(samples, aligned) if epochs is None else epochs,
            steps=samples // max(1, batch_size),
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=RATES[self.optimizer] if rate is None else rate,
            tried=rate is None,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
            cross_entropy=self.cross_entropy,
            distillation=self.distillation,
            ema=self.ema,
            augment=self.augment,
            parts=self.parts,
            mixed_precision=self.mixed_precision,
            channels_last=self.channels_last,
            compiled=self.compiled,
            task=context.dataset.task.name,
            seed=context.seed,
            start=start,
        )
        recipe.check()
        return recipe


def _notes(context: Context, state: FinetuneState, recipe: FinetuneRecipe) -> tuple[str, ...]:
    """Return what came out, and a warning where no epoch was better than the start."""
    assert state.found is not None, "the start was offered"
    best = f"{context.metric.text(state.found.accuracy)} on held-out images"
    if state.best_epoch or not state.epoch:
        return (f"{best} after epoch {state.best_epoch} of {recipe.epochs}",)
    return (
        f"{best} before fine-tuning",
        f"warning: no epoch of {state.epoch} is better on held-out images than the start, which is handed out; "
        f"give more epochs, or a lower rate than {recipe.learning_rate * state.share:.3g} (finetune.learning_rate)",
    )
