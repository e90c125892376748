"""What the search came to: losses of the operations that are left, each alone in the network of the best ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ....op_library.pools import operation as find_operation
from ....transformer.data.images import batches, size
from ....transformer.data.splits import split, take
from ....transformer.errors import UsageError
from ....transformer.ir.block import Block
from ....transformer.tools.files import slug
from ...candidates.build import build_candidate
from ...networks.assemble import CandidateWeights, build_student
from ...networks.placement import placed
from ...pretraining.records import TrainedRecord
from ...selecting.records import SelectionRecord
from ...selecting.table import Floats
from ..contest import Ints
from .layer import Place, Share
from .loop import PrunetSearch

_IMAGES = 512
"""Images that trained the probabilities, at most, to compare operations on."""
_NEAR = 2
"""Rungs on either side of the preferred width that are compared."""
_LEFT = 10.0
"""Nats that an operation costs beside its pretraining's error where the search has let it go: it is taken only where
the limits cannot be held without it."""
_BATCHES = 8
"""Of training images that batch norms are estimated on."""


@dataclass(frozen=True)
class Outcome:
    """The network that the search prefers, and what every exchange of one operation does to its loss."""

    search: PrunetSearch
    preferred: dict[str, str]
    """Block -> operation, within the limits or not."""
    loss: float
    """Of the preferred network, on images that trained the probabilities."""
    rows: tuple[Floats, ...]
    """For each block the change of the loss with each operation of the table, shape (M,)."""
    trained: dict[str, tuple[int, int]]
    """``block/operation`` -> (layer, choice) of what is left and trained."""


def outcome_of(search: PrunetSearch) -> Outcome:
    """Compare what is left in the supernet: one pass for each operation, the others as preferred.

    Raises:
        UsageError: the search broke down.
    """
    places, table = search.supernet.places, search.contest.table
    best = [place.best() for place in places]
    names = [place.rung_name(*found) for place, found in zip(places, best, strict=True)]
    base = _loss(search, [[Share(*found)] for found in best])
    if not math.isfinite(base):
        raise UsageError(
            "the search broke down: its network gives no numbers; set a smaller prunet.weights_rate, such as "
            f"{search.options.weights_rate / 4:g}"
        )
    rows, trained = [], dict[str, tuple[int, int]]()
    for index, place in enumerate(places):
        row = np.array(table.loss[index]) + _LEFT
        operations = table.operations[index]
        for choice, rung in _near(place, best[index]):
            name = place.rung_name(choice, rung)
            plan = [[Share(*found)] for found in best]
            plan[index] = [Share(choice, rung)]
            row[operations.index(name)] = _loss(search, plan) - base
            if choice >= 0 and name != "teacher":
                trained[f"{place.name}/{name}"] = index, choice
        rows.append(np.nan_to_num(row, nan=1e9, posinf=1e9))
    preferred = {place.name: name for place, name in zip(places, names, strict=True)}
    return Outcome(search, preferred, base, tuple(rows), trained)


def _near(place: Place, best: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (choice, rung) of what is compared: the preferred width and those near it, and what costs no training."""
    choice, rung = best
    found = {best: None}
    if choice >= 0:
        last = len(place.ladders[choice].names)
        found |= {(choice, near): None for near in range(max(1, rung - _NEAR), min(last, rung + _NEAR) + 1)}
        if place.skips:
            found[-1, 1] = None
    if len(place.ladders[0].names) == 1 and place.ladders[0].names[0] == "teacher":
        found[0, 1] = None
    return list(found)


@torch.no_grad()
def _loss(search: PrunetSearch, plan: Sequence[Sequence[Share]]) -> float:
    images, targets = search.sample(_IMAGES)
    search.supernet.plan(plan)
    task = search.context.dataset.task
    return float(task.loss(search.supernet.module(images), images, targets))


class TrainedCandidates(CandidateWeights):
    """A run's candidates, in place of those that the search has trained its own."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.search.context.store)
        self._outcome = outcome
        self.own: dict[str, torch.nn.Module] = {}
        """``block/operation`` -> what the search has trained, as far as it was asked for."""

    @property
    def recipes(self) -> dict[str, str]:
        """Fingerprint of how each was trained, by ``block/operation``."""
        own = f"prunet-{self._outcome.search.recipe}"
        return {**super().recipes, **dict.fromkeys(self._outcome.trained, own)}

    def _load(self, block: Block, operation: str) -> torch.nn.Module:
        key = f"{block.name}/{operation}"
        if key not in self._outcome.trained:
            return super()._load(block, operation)
        index, choice = self._outcome.trained[key]
        supernet = self._outcome.search.supernet
        tensors = supernet.cut(supernet.places[index], choice, operation)
        assert tensors is not None, "only what is trained is listed"
        self.own[key] = made_of(block, operation, {name: tensor.cpu() for name, tensor in tensors.items()})
        return self.own[key]


def made_of(block: Block, operation: str, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return the operation with these weights, in eval mode."""
    module = build_candidate(block, find_operation(operation), seed=0)
    module.load_state_dict(tensors)
    return module.eval()


def keep(outcome: Outcome, selections: Sequence[SelectionRecord]) -> int:
    """Write the trained operations of the selections for the student, and return how many; those of before are gone.

    Their batch norms are estimated in the first of the selections that has them, as that network is run: those of the
    teacher's own layers stay as they are.
    """
    context, weights, done = outcome.search.context, TrainedCandidates(outcome), set[str]()
    records: dict[str, TrainedRecord] = {}
    for selection in selections:
        graph = build_student(context.teacher, selection.choice, weights)
        new = [f"{b}/{o}" for b, o in selection.choice.items() if f"{b}/{o}" in weights.own.keys() - done]
        if not new:
            continue
        done |= set(new)
        with placed(context.device, graph.module):
            _estimate(graph.module, [weights.own[key] for key in new], _images(outcome.search))
        for key in new:
            records[key] = _record(outcome, key, weights.own[key].state_dict())
    with context.store.transaction():
        context.store.delete(TrainedRecord)
        for key, record in records.items():
            context.store.put(key, record)
    return len(records)


def _record(outcome: Outcome, key: str, tensors: dict[str, torch.Tensor]) -> TrainedRecord:
    block, operation = key.rsplit("/", 1)
    file = f"trained/{slug(block)}/{slug(operation)}.safetensors"
    digest = outcome.search.context.store.save_tensors(file, tensors)
    return TrainedRecord(
        block=block, operation=operation, file=file, recipe=f"prunet-{outcome.search.recipe}", digest=digest
    )


@torch.no_grad()
def _estimate(network: torch.nn.Module, modules: Sequence[torch.nn.Module], images: Sequence[torch.Tensor]) -> None:
    """Let the batch norms of ``modules`` take the statistics that they see in ``network``, in eval mode, on images."""
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _BatchNorm)]
    moments = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # each batch weighs the same
        layer.train()
    for batch in images:
        network(batch)
    for layer, momentum in zip(layers, moments, strict=True):
        layer.momentum = momentum
        layer.eval()


def _images(search: PrunetSearch) -> list[torch.Tensor]:
    fit, batch = split(search.context.dataset, search.context.seed).fit, search.options.search_batch_size
    part = take(fit, min(size(fit), batch * _BATCHES))
    return [images for images, _ in batches(part, batch, device=search.context.device)]


def exchanges(outcome: Outcome, choice: Ints) -> tuple[Floats, ...]:
    """Return for each block the loss with each of its operations, the others as in ``choice``, shape (M,)."""
    now = [row[i] for row, i in zip(outcome.rows, choice.tolist(), strict=True)]
    total = outcome.loss + math.fsum(now)
    return tuple(total - own + row for row, own in zip(outcome.rows, now, strict=True))
