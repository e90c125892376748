"""Loss and accuracy of a classifier on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..transformer.contracts.data import Sample
from ..transformer.contracts.data_images import batches
from .crew import crew
from .placement import placed


@dataclass(frozen=True)
class Metrics:
    """Means over a data set."""

    loss: float
    """Cross-entropy (nats)."""
    accuracy: float
    """Top-1, percent."""
    samples: int


@dataclass(frozen=True)
class Counts:
    """Sums over a batch."""

    loss: float
    right: int
    samples: int


def count(logits: Tensor, labels: Tensor) -> Counts:
    """Return the sums of a batch: logits (N, classes), labels (N,)."""
    loss = F.cross_entropy(logits.float(), labels, reduction="sum").item()
    return Counts(loss, int((logits.argmax(1) == labels).sum()), len(labels))


def mean(batches: Iterable[Counts]) -> Metrics:
    """Return the means of all batches, summed in their order in double precision."""
    loss, right, samples = 0.0, 0, 0
    for part in batches:
        loss, right, samples = loss + part.loss, right + part.right, samples + part.samples
    return Metrics(loss / max(1, samples), 100 * right / max(1, samples), samples)


def evaluate(
    network: nn.Module, dataset: Dataset[Sample], batch_size: int = 256, device: torch.device | str = "cpu"
) -> Metrics:
    """Return the metrics of ``network`` on all of ``dataset``, in eval mode; mode and device are left as they were.

    On a CPU batches are evaluated at the same time, each on one thread, so the number of threads does not count.
    """
    training, place = network.training, torch.device(device)
    network.eval()
    found: dict[int, Counts] = {}

    def job(index: int, images: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            found[index] = count(network(images), labels)

    try:
        with placed(place, network), crew(0, place) as hands:
            hands.run(partial(job, i, *batch) for i, batch in enumerate(batches(dataset, batch_size, device=place)))
    finally:
        network.train(training)
    return mean(found[index] for index in sorted(found))
