"""What a network is for: its loss, the metric it is judged by, and how a student of it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..capture.recording import map_leaves
from ..errors import UsageError
from .metric import LOSS, Metric


class Task(ABC):
    """The user's own objective, given as ``hant.Data(..., task=...)``; detection, segmentation, regression, ...

    ``outputs`` is what the network returns, as it returns it; ``images`` is a batch (N, C, H, W) on the training device
    and ``targets`` what the data set says of its images: a tensor (N,) if these are whole numbers, else a list. Methods
    are called from several threads at a time.
    """

    name: ClassVar[str] = "task"
    """Part of what scores, evaluations and a fine-tuning are known by: another name makes them anew."""
    metric: ClassVar[Metric] = LOSS
    """What teacher and student are compared by: the loss, or what ``measure`` returns."""
    least_loss: ClassVar[float] = 0.0
    """What the loss is never below: ranking stops losers early by it. ``-math.inf`` if nothing is known."""

    def __init_subclass__(cls) -> None:
        """Refuse a metric that nothing measures.

        Raises:
            UsageError: the class names a metric and has no ``measure``.
        """
        if cls.metric is not LOSS and cls.measure is Task.measure:
            raise UsageError(
                f"task {cls.__name__} has the metric {cls.metric.name!r} and nothing that measures it; "
                "give it a method measure(self, outputs, images, targets)"
            )

    @abstractmethod
    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss of a batch. Candidates are scored by it, whole networks ranked."""

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the loss that fine-tuning makes small; by default that of the student, without the teacher.

        The mean over the batch, so that several processes may share it.
        """
        return self.loss(student(images), images, targets)

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        """Return the mean of ``metric`` over a batch; by default the loss.

        Of the states of a student in training the best by it is kept, among equals that of the least loss. What is
        reported is the mean over all images, each batch counting by its images.
        """
        return self.loss(outputs, images, targets).item()

    def totals(self, outputs: Any, images: Tensor, targets: Any) -> tuple[float, float]:
        """Return loss and metric, summed over the images of a batch."""
        loss = self.loss(outputs, images, targets).item()
        value = loss if self.metric is LOSS else float(self.measure(outputs, images, targets))
        return len(images) * loss, len(images) * self.metric.finite(value)


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return targets or outputs with all tensors on ``device``; lists, tuples and dictionaries are looked into."""
    return map_leaves(value, lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf)
