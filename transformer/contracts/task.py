"""What a network is for, where it is not classification: its loss, and how a student of it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Task(ABC):
    """The user's own objective, given as ``hant.Data(..., task=...)``; detection, segmentation, regression, ...

    ``images`` is a batch (N, C, H, W) on the training device and ``targets`` what the data set says of its images: a
    tensor (N,) if these are whole numbers, else a list. Methods are called from several threads at a time.
    """

    name: ClassVar[str] = "task"
    """Part of what a fine-tuning is known by: another name trains anew."""

    @abstractmethod
    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss of a batch, from what the network made of the images. Candidates are scored by it."""

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the loss that fine-tuning makes small; by default that of the student, without the teacher.

        The mean over the batch, so that several processes may share it.
        """
        return self.loss(student(images), images, targets)

    def quality(self, outputs: Any, images: Tensor, targets: Any) -> float:
        """Return how good the outputs are on average, from 0 to 1, where classification has its top-1 accuracy.

        Of two states of a student the one of higher quality is kept, among equals that of lower loss. By default
        there is none but the loss.
        """
        return 0.0


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return targets with all their tensors on ``device``; lists, tuples and dictionaries are looked into."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: to_device(item, device) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    return value
