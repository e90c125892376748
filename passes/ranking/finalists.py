"""Fine-tune a few of the best shortly before choosing: rankings can flip (HANT section 3.2, figure 2c)."""

from __future__ import annotations

import hashlib
import math

from ...transformer.contracts.context import Context
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ..finetuning.loop import Loop, objective_of
from ..finetuning.parallel import Parallel
from ..finetuning.recipe import FinetuneRecipe
from ..finetuning.state import FinetuneState
from ..networks.assemble import CandidateWeights, build_student, independent
from ..networks.evaluate import evaluate
from ..networks.placement import placed
from .records import FinalistRecord


def short_finetune(
    context: Context, choice: dict[str, str], start: str, epochs: int, batch_size: int = 64, learning_rate: float = 0.05
) -> FinalistRecord:
    """Return what the network of ``choice`` reaches in a few epochs; a finished one is not trained again.

    Args:
        context: of the run.
        choice: block -> operation.
        start: hash of the choice and of how its candidates were trained.
        epochs: passes over the training data, with a whole schedule of learning rates.
        batch_size: of training, as in ``FinetunePass``.
        learning_rate: as in ``FinetunePass``.
    """
    parts, task = split(context.dataset, context.seed), context.dataset.task
    recipe = _recipe(size(parts.fit), context.seed, start, epochs, batch_size, learning_rate)
    key = hashlib.sha256(f"{start}/{recipe.fingerprint}".encode()).hexdigest()[:24]
    known = context.store.get(FinalistRecord, key)
    if known is not None:
        return known
    network = independent(build_student(context.teacher, choice, CandidateWeights(context.store))).network
    state = FinetuneState(network.to(context.device), recipe.make_optimizer(network.parameters()))
    teacher, parallel = context.teacher.network, Parallel(context.device)
    objective, augment = objective_of(task, recipe), context.dataset.augment
    loop = Loop(state, teacher, recipe, parts.fit, augment, context.device, parallel, objective)
    with placed(context.device, teacher):
        _train(loop, context)
    found = evaluate(network, parts.held_out, 256, context.device, task)
    loss = found.loss if math.isfinite(found.loss) else 1e30
    record = FinalistRecord(choice=choice, epochs=epochs, loss=loss, accuracy=found.accuracy)
    context.store.put(key, record)
    return record


def _train(loop: Loop, context: Context) -> None:
    """Train all epochs; a loss that is no number ends it."""
    epochs = loop.recipe.epochs
    for epoch in range(epochs):
        loss = loop.epoch()
        loop.state.finish_epoch({"train_loss": loss})
        if not math.isfinite(loss):
            break
        context.progress.log(f"finalist: epoch {epoch + 1} of {epochs}, loss {loss:.3f}")


def _recipe(samples: int, seed: int, start: str, epochs: int, batch_size: int, learning_rate: float) -> FinetuneRecipe:
    batch_size = min(batch_size, samples)
    return FinetuneRecipe(
        epochs=epochs,
        steps=samples // batch_size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        start=start,
    )
