"""Loss and accuracy of a classifier on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..transformer.contracts.data import Sample
from ..transformer.contracts.data_images import batches


@dataclass(frozen=True)
class Metrics:
    """Means over a data set."""

    loss: float
    """Cross-entropy (nats)."""
    accuracy: float
    """Top-1, percent."""
    samples: int


class Meter:
    """Adds up the metrics of batches, in double precision."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._right = 0
        self._samples = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (N, classes), labels (N,)."""
        self._loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        self._right += int((logits.argmax(1) == labels).sum())
        self._samples += len(labels)

    @property
    def metrics(self) -> Metrics:
        """The means so far."""
        samples = max(1, self._samples)
        return Metrics(self._loss / samples, 100 * self._right / samples, self._samples)


def evaluate(
    network: nn.Module, dataset: Dataset[Sample], batch_size: int = 256, device: torch.device | str = "cpu"
) -> Metrics:
    """Return the metrics of ``network`` on all of ``dataset``, in eval mode; its mode is left as it was."""
    meter = Meter()
    for logits, labels in predictions(network, batches(dataset, batch_size, device=device)):
        meter.add(logits, labels)
    return meter.metrics


def predictions(network: nn.Module, stream: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield (logits, labels) of every batch, in eval mode without gradients."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            for images, labels in stream:
                yield network(images), labels
    finally:
        network.train(training)
