"""Loss and accuracy of a classifier on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..transformer.contracts.data import Sample
from ..transformer.contracts.data_images import batches, size
from ..transformer.contracts.task import Task
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
    right: float
    """Images whose class is right; with a task of the user's, its quality times the images."""
    samples: int


def count(logits: Any, images: Tensor, labels: Any, task: Task | None = None) -> Counts:
    """Return the sums of a batch: logits (N, classes), labels (N,); with a task whatever it takes."""
    if task is not None:
        total = len(images)
        return Counts(
            task.loss(logits, images, labels).item() * total, task.quality(logits, images, labels) * total, total
        )
    loss = F.cross_entropy(logits.float(), labels, reduction="sum").item()
    return Counts(loss, int((logits.argmax(1) == labels).sum()), len(labels))


def mean(batches: Iterable[Counts]) -> Metrics:
    """Return the means of all batches, summed in their order in double precision."""
    loss, right, samples = 0.0, 0.0, 0
    for part in batches:
        loss, right, samples = loss + part.loss, right + part.right, samples + part.samples
    return Metrics(loss / max(1, samples), 100 * right / max(1, samples), samples)


def evaluate(
    network: nn.Module,
    dataset: Dataset[Sample],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    task: Task | None = None,
) -> Metrics:
    """Return the metrics of ``network`` on all of ``dataset``, in eval mode; mode and device are left as they were.

    On a CPU batches are evaluated at the same time, each on one thread, so the number of threads does not count.
    """
    return mean(tally(network, dataset, batch_size, device, task))


def tally(
    network: nn.Module,
    dataset: Dataset[Sample],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    task: Task | None = None,
    first: int = 0,
    every: int = 1,
) -> list[Counts]:
    """Return the sums of the batches ``first``, ``first + every``, ... of the data set, as ``evaluate`` takes them."""
    training, place = network.training, torch.device(device)
    network.eval()
    found: dict[int, Counts] = {}

    def job(index: int, images: Tensor, labels: Any) -> None:
        with torch.no_grad():
            found[index] = count(network(images), images, labels, task)

    try:
        with placed(place, network), crew(0, place) as hands:
            cuts = torch.split(torch.arange(size(dataset)), batch_size)[first::every]
            order = torch.cat(cuts) if cuts else torch.arange(0)
            parts = batches(dataset, batch_size, order, place)
            hands.run(partial(job, index, *batch) for index, batch in enumerate(parts))
    finally:
        network.train(training)
    return [found[index] for index in sorted(found)]
