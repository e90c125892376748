"""Align a few of the best shortly before choosing: rankings can flip (HANT section 3.2, figure 2c).

What a network loses before any training of the whole says little: most of it is mended in a hundred steps, of one more
than of the other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

from ...transformer.contracts.context import Context
from ...transformer.contracts.progress import Progress
from ...transformer.data.splits import split
from ..finetuning.align import AlignPass
from ..finetuning.examine import Parts
from ..finetuning.start import student
from ..networks.evaluate import evaluate
from .records import FinalistRecord


def short_alignment(
    context: Context, choice: dict[str, str], start: str, align: AlignPass, steps: int
) -> FinalistRecord:
    """Return what the network of ``choice`` reaches in a few steps; a finished one is not trained again.

    The held-out images are not trained on.

    Args:
        context: of the run.
        choice: block -> operation.
        start: hash of the choice and of how its candidates were trained.
        align: how the winner is aligned.
        steps: with a whole schedule of learning rates.
    """
    held_out = split(context.dataset, context.seed).held_out
    parts = Parts(split(context.dataset, context.seed).fit, held_out)
    recipe = align.recipe(context, start, parts)
    epochs = -(-steps // recipe.steps)
    recipe = replace(recipe, epochs=epochs, steps=-(-steps // epochs))
    key = hashlib.sha256(f"{start}/{recipe.fingerprint}".encode()).hexdigest()[:24]
    known = context.store.get(FinalistRecord, key)
    if known is not None:
        return known
    graph = student(context, choice)
    silent = replace(context, progress=Progress())
    state, _ = align.train(silent, graph, choice, recipe, parts, durable=False)
    graph.network.load_state_dict(state.best)
    found = evaluate(graph.network, held_out, 256, context.device, context.dataset.task)
    loss = found.loss if math.isfinite(found.loss) else 1e30
    record = FinalistRecord(choice=choice, steps=recipe.total, loss=loss, accuracy=found.accuracy)
    context.store.put(key, record)
    return record
