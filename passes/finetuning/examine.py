"""How good a state of a student in training is, on training images that are kept for this."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ...transformer.contracts.context import Context
from ...transformer.contracts.data import Data, Sample
from ...transformer.contracts.task import Classification
from ...transformer.data.images import batches, size
from ...transformer.data.splits import changed_part, split
from ...transformer.tools.modes import evaluating
from ...transformer.tools.seeds import derived_seed
from ..networks.evaluate import mean, tally
from .parallel import Parallel

JUDGES = 1000
"""Training images that are not trained on, at most, and by which the best state is found."""
FORGIVEN = 500
"""Steps that make up for all right answers of the start, or for a divergence that a trial doubled."""
_BATCH = 256
"""Images of an evaluation at a time."""


@dataclass(frozen=True)
class Parts:
    """The training images once everything is selected: scoring and ranking need none any more."""

    fit: Dataset[Sample]
    """Trained on."""
    judges: Dataset[Sample]


def parts_of(data: Data, seed: int) -> Parts:
    """Return all training images but ``JUDGES`` of those that were held out so far, and these."""
    held_out = cast("Subset[Sample]", split(data, seed).held_out).indices
    judges = [held_out[place] for place in spread(len(held_out), JUDGES)]
    rest = sorted(set(range(size(data.train))) - set(judges))
    return Parts(Subset(data.train, rest), Subset(data.train, judges))


def spread(total: int, most: int) -> list[int]:
    """Return up to ``most`` of the places 0 to ``total``, at equal distances: of all classes, where they are sorted."""
    count = min(most, total)
    return [place * total // count for place in range(count)]


@dataclass(frozen=True)
class Found:
    """Means over the judging images."""

    accuracy: float
    """The task's metric on the images as they are: top-1 in percent for classification."""
    loss: float
    """The task's loss on them."""
    divergence: float
    """What states are compared by, less being better (``Examiner``)."""
    right: float = 0.0
    """Percentage of the augmented images that is answered as labelled, or as the teacher does where labels are not
    trained on: what diverges less and has fewer right has only become less sure of itself. 0 for other tasks."""


def least_right(start: Found, steps: int) -> float:
    """Return how many right answers, in percent, have to be left after so many steps.

    What a few steps lose is lost; what many lose may have been known by heart, by the teacher's blocks in the start.
    """
    return start.right * (1 - steps / FORGIVEN)


class Examiner:
    """Compares states of a student by their divergence from what they are trained on.

    For a classifier that is the KL divergence of its answers from the teacher's on augmented images and, where labels
    are trained on, that from the labels (cross-entropy), by the factors of training. Accuracy would not do: the teacher
    was trained on these images and may know them by heart, and so do its blocks in the start, whatever they are worth
    on others. Of other tasks nothing is known but the metric, on the images as they are.
    """

    students: tuple[str, ...] = ()
    """Names of the students that are examined one by one, where there are several."""

    def __init__(
        self, context: Context, judges: Dataset[Sample], augment: bool, labels: float = 0.0, answers: float = 1.0
    ) -> None:
        """Take the factors of the divergence from the labels and of that from the teacher's answers."""
        self._context, self._judges, self._labels, self._answers = context, judges, labels, answers
        self._teacher = context.teacher.network
        self._augment = context.dataset.augment if augment else None
        changed = changed_part(context.dataset, judges) if augment else None
        self._seed = derived_seed(context.seed, "judges") % 2**31
        self._changed = judges if changed is None else changed(self._seed)
        self._taught: dict[int, Tensor] = {}

    def examine(self, network: nn.Module, parallel: Parallel) -> Found:
        """Return what a network is worth, in eval mode; processes share the batches."""
        device, task = self._context.device, self._context.dataset.task
        own = tally(network, self._judges, _BATCH, device, task, parallel.rank, parallel.count)
        found = mean(self._in_order(own, parallel))
        if not isinstance(task, Classification):
            return Found(found.accuracy, found.loss, -self._context.metric.gain(found.accuracy))
        divergence, right = self._changes(network, parallel)
        return Found(found.accuracy, found.loss, divergence, right)

    def accuracies(self) -> dict[str, float]:
        """Return the accuracy of each of ``students`` when they were examined last, in the metric's unit."""
        return {}

    def trouble(self, best: Found) -> str:
        """Return in words why it is no use to go on after what was examined last; ``best`` is the best state."""
        return ""

    def _changes(self, network: nn.Module, parallel: Parallel) -> tuple[float, float]:
        """Return the divergence on changed images, and the percentage of them that is answered right."""
        with torch.no_grad(), evaluating(network), evaluating(self._teacher):
            sums = [self._sum(network, index) for index in self._share(parallel)]
        divergence, right = (
            sum(part) / size(self._judges) for part in zip(*self._in_order(sums, parallel), strict=True)
        )
        return math.inf if math.isnan(divergence) else divergence, 100 * right

    def _share(self, parallel: Parallel) -> range:
        return range(parallel.rank, -(-size(self._judges) // _BATCH), parallel.count)

    def _in_order(self, own: list[Any], parallel: Parallel) -> list[Any]:
        """Return what the processes found of their batches, in the order of the batches."""
        placed = [(parallel.rank + parallel.count * place, value) for place, value in enumerate(own)]
        return [value for _, value in sorted(parallel.gather(placed), key=lambda pair: pair[0])]

    def _sum(self, network: nn.Module, index: int) -> tuple[float, int]:
        """Return the sum of the divergences of a batch, and how many of its images are answered right."""
        images, targets = self._batch(index)
        if index not in self._taught:
            self._taught[index] = F.log_softmax(self._teacher(images).float(), 1)
        ours = F.log_softmax(network(images).float(), 1)
        from_teacher = F.kl_div(ours, self._taught[index], reduction="sum", log_target=True).item()
        divergence = self._answers * from_teacher + self._labels * F.nll_loss(ours, targets, reduction="sum").item()
        wanted = targets if self._labels else self._taught[index].argmax(1)
        return divergence, int((ours.argmax(1) == wanted).sum())

    def _batch(self, index: int) -> tuple[Tensor, Any]:
        """Return images and labels of a batch as they are looked at each time."""
        order = torch.arange(index * _BATCH, min((index + 1) * _BATCH, size(self._judges)))
        images, targets = next(batches(self._changed, _BATCH, order, self._context.device))
        if self._augment is None:
            return images, targets
        generator = torch.Generator().manual_seed(self._seed + index)
        return self._augment(images, generator), targets
