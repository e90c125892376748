"""Train the winner as a whole: cross-entropy plus distillation from the teacher.

HANT section 2.2, "Candidate architecture fine-tuning", and A.1: gamma_CE = gamma_KL = 1.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.utils.data import Dataset

from ..transformer.contracts.context import Context
from ..transformer.contracts.data import Sample, split
from ..transformer.contracts.data_images import size
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import CandidateRecord, EpochRecord, StudentRecord, WinnerRecord
from ..transformer.errors import UsageError
from .assemble import CandidateWeights, build_student, independent
from .evaluate import Metrics, evaluate
from .finetuning.loop import run_epoch
from .finetuning.recipe import FinetuneRecipe, automatic_epochs, check
from .finetuning.state import FinetuneState
from .placement import placed

STUDENT = "checkpoints/student.safetensors"


@dataclass(frozen=True)
class FinetunePass(Pass):
    """Write the student: the best weights on held-out training images. An epoch is a unit of work.

    A stopped run continues after its last finished epoch, on a CPU to the same bits. A loss that is no number ends
    the training; the best weights before it are kept.
    """

    name: ClassVar[str] = "finetune"
    requires: ClassVar[tuple[str, ...]] = ("winner", "candidate")
    ensures: ClassVar[tuple[str, ...]] = ("student",)

    epochs: int | None = None
    """0 keeps the weights as pretrained; by default 10 to 15, by the size of the data."""
    batch_size: int = 64
    optimizer: str = "sgd"
    """``sgd`` or ``adamw``."""
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    """Share of all steps in which the rate rises; then it falls as a cosine."""
    label_smoothing: float = 0.0
    cross_entropy: float = 1.0
    """Factor of the cross-entropy (gamma_CE)."""
    distillation: float = 1.0
    """Factor of the KL divergence to the teacher (gamma_KL)."""
    ema: float = 0.0
    """Decay a step of a moving average of the weights, such as 0.999; 0 for none."""
    augment: bool = True
    """Use the data's augmentation, where it has one."""

    def run(self, context: Context) -> PassResult:
        """Train the epochs that are not yet done."""
        winner = context.store.get(WinnerRecord, "winner")
        if winner is None:
            raise UsageError("the run has no winner yet; run the rank stage first")
        parts = split(context.dataset, context.seed)
        recipe = self._recipe(context, winner, size(parts.fit))
        state = _start(context, winner, recipe, parts.held_out)
        with placed(context.device, context.teacher.network):
            stopped = _train(context, state, recipe, parts.fit, parts.held_out)
        context.store.save_tensors(STUDENT, state.best)
        student = StudentRecord(
            file=STUDENT, choice=winner.choice, epochs=state.epoch, held_out_accuracy=state.best_accuracy
        )
        context.store.put("student", student)
        note = f"{state.best_accuracy:.2f} % on held-out images after epoch {state.best_epoch} of {recipe.epochs}"
        return PassResult(notes=(note, stopped) if stopped else (note,))

    def _recipe(self, context: Context, winner: WinnerRecord, samples: int) -> FinetuneRecipe:
        check(self.optimizer, self.epochs, samples, self.batch_size)
        batch_size = min(self.batch_size, samples)
        return FinetuneRecipe(
            epochs=automatic_epochs(samples) if self.epochs is None else self.epochs,
            steps=samples // batch_size,
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
            cross_entropy=self.cross_entropy,
            distillation=self.distillation,
            ema=self.ema,
            augment=self.augment,
            seed=context.seed,
            start=_start_of(context, winner.choice),
        )


def checkpoint(recipe: FinetuneRecipe) -> str:
    """Return the file, relative to the run, that holds the state after the last finished epoch."""
    return f"checkpoints/finetune-{recipe.fingerprint}.safetensors"


def _start_of(context: Context, choice: dict[str, str]) -> str:
    """Return a hash of the choice and of how its candidates were trained."""
    records = context.store.all(CandidateRecord)
    parts = {f"{b}/{o}": records[f"{b}/{o}"].recipe for b, o in choice.items() if f"{b}/{o}" in records}
    return hashlib.sha256(json.dumps([choice, parts], sort_keys=True).encode()).hexdigest()[:16]


def _start(context: Context, winner: WinnerRecord, recipe: FinetuneRecipe, held_out: Dataset[Sample]) -> FinetuneState:
    """Assemble the student, or take up its last checkpoint."""
    graph = independent(build_student(context.teacher, winner.choice, CandidateWeights(context.store)))
    network = graph.network.to(context.device)
    state = FinetuneState(network, recipe.make_optimizer(network.parameters()))
    file = checkpoint(recipe)
    if context.store.path(file).exists():
        state.restore(context.store, file)
    else:
        found = evaluate(network, held_out, 256, context.device)
        state.offer(dict(network.state_dict()), found.accuracy, found.loss)
    context.store.delete(EpochRecord)
    for epoch in range(state.epoch):
        _record(context, state, epoch, recipe)
    return state


def _train(
    context: Context, state: FinetuneState, recipe: FinetuneRecipe, fit: Dataset[Sample], held_out: Dataset[Sample]
) -> str:
    """Run the epochs that are left; return why it stopped early, or nothing."""
    file = checkpoint(recipe)
    augment = context.dataset.augment if recipe.augment else None
    with context.progress.task("finetune", recipe.epochs * recipe.steps) as task:
        task.advance(state.epoch * recipe.steps)
        for epoch in range(state.epoch, recipe.epochs):
            started = time.perf_counter()
            loss = run_epoch(state, context.teacher.network, recipe, fit, augment, context.device, task.advance)
            if not math.isfinite(loss):
                return f"stopped in epoch {epoch + 1}: the loss is {loss}; the best weights before it are kept"
            weights = state.average or dict(state.network.state_dict())
            found = _evaluate(state, weights, held_out, context)
            state.history.append(
                {
                    "train_loss": loss,
                    "held_out_accuracy": found.accuracy,
                    "held_out_loss": found.loss,
                    "learning_rate": recipe.rate((epoch + 1) * recipe.steps - 1),
                    "seconds": time.perf_counter() - started,
                }
            )
            state.offer(weights, found.accuracy, found.loss)
            state.save(context.store, file)
            _record(context, state, epoch, recipe)
            task.advance(0, f"epoch {epoch + 1}: loss {loss:.3f}, held out {found.accuracy:.2f} %")
    return ""


def _evaluate(state: FinetuneState, weights: dict[str, Tensor], held_out: Dataset[Sample], context: Context) -> Metrics:
    """Return the metrics of the network with ``weights``; it keeps its own."""
    if not state.average:
        return evaluate(state.network, held_out, 256, context.device)
    own = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    state.network.load_state_dict(weights)
    found = evaluate(state.network, held_out, 256, context.device)
    state.network.load_state_dict(own)
    return found


def _record(context: Context, state: FinetuneState, epoch: int, recipe: FinetuneRecipe) -> None:
    row = state.history[epoch]
    record = EpochRecord(
        epoch=epoch + 1,
        train_loss=row["train_loss"],
        held_out_accuracy=row["held_out_accuracy"],
        learning_rate=row["learning_rate"],
        seconds=row["seconds"],
        recipe=recipe.fingerprint,
    )
    context.store.put(f"{epoch + 1:04d}", record)
