"""What a student is trained on: labels and answers, or features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Lesson(ABC):
    """The loss of a training step, and what else is done to the networks in it."""

    learner: nn.Module
    """Holds what is trained; of several processes each calls it through a wrapper that averages gradients."""

    @abstractmethod
    def begin(self) -> None:
        """Put the networks into the modes that they train in."""

    def turns(self, step: int) -> int:
        """Get ready for a step, counted over all epochs; return how many passes each part of its batch takes."""
        return 1

    def turn(self, index: int) -> None:  # noqa: B027
        """Get ready for a pass of the step: of passes that differ each has a loss of its own."""

    @abstractmethod
    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss of a batch (N, C, H, W); ``learner`` is the lesson's own, or wraps it."""

    @abstractmethod
    def shape(self) -> None:
        """Change the gradients of all parameters in place, before the optimizer takes its step."""
