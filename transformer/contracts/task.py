"""What a network is for: its loss, its metric, its targets; one class an image where the data say nothing else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..errors import UsageError
from ..tools.nested import map_leaves

_BROKEN = 1e30


class Metric(BaseModel):
    """A number that is averaged over images: its name, its unit, and which way is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As it is to be printed, such as ``mean IoU``."""
    unit: str = ""
    """Printed after the value; ``%`` where the value is in percent. Empty for a plain number."""
    higher_is_better: bool = True

    def gain(self, value: float) -> float:
        """Return a number that is higher the better ``value`` is."""
        return value if self.higher_is_better else -value

    def finite(self, value: float) -> float:
        """Return ``value`` as records can hold it: what is no number counts as worse than anything real."""
        return self.gain(-_BROKEN) if math.isnan(value) else max(-_BROKEN, min(value, _BROKEN))

    def drop(self, teacher: float, student: float) -> float:
        """Return how much worse the student's value is than the teacher's; negative where it is better."""
        return teacher - student if self.higher_is_better else student - teacher

    def label(self, what: str) -> str:
        """Return the label of an axis: ``top-1 on test images, %`` for `` on test images``."""
        return f"{self.name}{what}" + (f", {self.unit}" if self.unit else "")

    def text(self, value: float) -> str:
        """Return a value as people read it: ``98.50 %``, ``0.6123``, ``3.21 cm``."""
        return f"{value:.2f} %" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()

    def difference(self, value: float, sign: str = "") -> str:
        """Return a difference of two values as people read it: ``0.25 points``; with ``sign="+"`` always signed."""
        return f"{value:{sign}.2f} points" if self.unit == "%" else f"{value:{sign}.4g} {self.unit}".rstrip()

    def limit(self, drop: float) -> str:
        """Return the largest drop that is allowed as people read it: ``0.5 points lost``."""
        return " ".join(filter(None, (f"{drop:g}", "points" if self.unit == "%" else self.unit, "lost")))


TOP1 = Metric(name="top-1", unit="%")
"""Share of the images whose class is right."""
LOSS = Metric(name="loss", higher_is_better=False)
"""The task's own loss."""


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


def cross_entropy(logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
    """Return torch's cross-entropy of logits (N, classes) and labels (N,), with its options.

    Raises:
        UsageError: a label is no class of the network (on the CPU; other devices have no words for it).
    """
    try:
        return F.cross_entropy(logits, labels, **options)
    except IndexError as error:
        classes = logits.shape[1]
        wrong = labels[(labels < 0) | (labels >= classes)]
        raise UsageError(
            f"the data have a label {int(wrong[0])}, the network has {classes} outputs, which are classes 0 to "
            f"{classes - 1}; leave such samples out, and the same command goes on"
        ) from error


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return targets or outputs with all tensors on ``device``; lists, tuples and dictionaries are looked into."""
    return map_leaves(value, lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf)


@final
class Classification(Task):
    """Cross-entropy (nats) and top-1 of logits (N, classes) for labels (N,)."""

    name: ClassVar[str] = ""
    metric: ClassVar[Metric] = TOP1

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the mean cross-entropy."""
        return cross_entropy(outputs.float(), targets)

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        """Return the share of the images whose class is right, in percent."""
        return 100 * int((outputs.argmax(1) == targets).sum()) / max(1, len(targets))

    def totals(self, outputs: Any, images: Tensor, targets: Any) -> tuple[float, float]:
        """Return both summed over the images, without rounding a mean before."""
        loss = cross_entropy(outputs.float(), targets, reduction="sum").item()
        return loss, 100 * int((outputs.argmax(1) == targets).sum())
