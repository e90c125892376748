"""Loss and metric of a network on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.data import Sample
from ...transformer.contracts.task import Classification, Task
from ...transformer.data.images import batches, size
from ...transformer.tools.modes import evaluating
from .crew import crew
from .placement import placed

CLASSIFICATION = Classification()


@dataclass(frozen=True)
class Metrics:
    """Means over a data set."""

    loss: float
    """The task's: cross-entropy (nats) for classification."""
    accuracy: float
    """The task's metric: top-1 in percent for classification."""
    samples: int


@dataclass(frozen=True)
class Counts:
    """Sums over a batch."""

    loss: float
    metric: float
    samples: int


def count(task: Task, outputs: Any, images: Tensor, targets: Any) -> Counts:
    """Return the sums of a batch, from what the network made of its images."""
    return Counts(*task.totals(outputs, images, targets), len(images))


def mean(batches: Iterable[Counts]) -> Metrics:
    """Return the means of all batches, summed in their order in double precision."""
    loss, metric, samples = 0.0, 0.0, 0
    for part in batches:
        loss, metric, samples = loss + part.loss, metric + part.metric, samples + part.samples
    return Metrics(loss / max(1, samples), metric / max(1, samples), samples)


def evaluate(
    network: nn.Module,
    dataset: Dataset[Sample],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    task: Task = CLASSIFICATION,
) -> Metrics:
    """Return the metrics of ``network`` on all of ``dataset``, in eval mode; modes and device are left as they were.

    On a CPU batches are evaluated at the same time, each on one thread, so the number of threads does not count.
    """
    return mean(tally(network, dataset, batch_size, device, task))


def tally(
    network: nn.Module,
    dataset: Dataset[Sample],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    task: Task = CLASSIFICATION,
    first: int = 0,
    every: int = 1,
) -> list[Counts]:
    """Return the sums of the batches ``first``, ``first + every``, ... of the data set, as ``evaluate`` takes them."""
    place = torch.device(device)
    found: dict[int, Counts] = {}

    def job(index: int, images: Tensor, targets: Any) -> None:
        with torch.no_grad():
            found[index] = count(task, network(images), images, targets)

    with evaluating(network), placed(place, network), crew(0, place) as hands:
        cuts = torch.split(torch.arange(size(dataset)), batch_size)[first::every]
        order = torch.cat(cuts) if cuts else torch.arange(0)
        parts = batches(dataset, batch_size, order, place)
        hands.run(partial(job, index, *batch) for index, batch in enumerate(parts))
    return [found[index] for index in sorted(found)]
