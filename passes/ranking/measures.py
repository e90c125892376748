"""What a network is measured by before fine-tuning, added up image by image (HANT table 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...transformer.contracts.task import Classification, Task, cross_entropy
from ...transformer.errors import UsageError, nearest

METRICS: Mapping[str, str] = {
    "cross-entropy": "loss",
    "accuracy": "wrong",
    "kl": "kl",
    "feature-mse": "feature_mse",
}
"""What networks can be compared by -> the measure that is added up. No image adds less than 0 to any of them."""

_BROKEN = 1e30
"""Stands for what is no number: finite, so that records can hold it, and worse than anything real."""


def measure_of(metric: str, task: Task) -> str:
    """Return the name of the measure behind ``metric``; ``cross-entropy`` is the loss, whatever the task.

    Raises:
        UsageError: no such metric, or none of this task.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")
    if metric in ("accuracy", "kl") and not isinstance(task, Classification):
        raise UsageError(
            f"ranking by {metric!r} needs a classifier, the data have the task {task.name!r}; "
            "give cross-entropy, which stands for the task's loss, or feature-mse"
        )
    return METRICS[metric]


@dataclass
class Totals:
    """Sums over the images so far, in double precision."""

    samples: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch: for each measure the values of its images, shape (N,)."""
        for name, value in values.items():
            exact = value.double().nan_to_num(nan=_BROKEN, posinf=_BROKEN)
            self.sums[name] = self.sums.get(name, 0.0) + exact.sum().item()
            self.squares[name] = self.squares.get(name, 0.0) + exact.square().sum().item()
        self.samples += len(next(iter(values.values())))

    def mean(self, name: str) -> float:
        """Return the mean of a measure over the images so far."""
        return self.sums.get(name, 0.0) / max(1, self.samples)

    @property
    def accuracy(self) -> float:
        """Top-1, percent; with a task of the user's its metric."""
        return self.mean("metric") if "metric" in self.sums else 100 * (1 - self.mean("wrong"))

    def least(self, name: str, total: int, doubt: float | None = None, floor: float = 0.0) -> float:
        """Return what the sum over all ``total`` images will be at least.

        1. Without ``doubt`` that is certain: each of the remaining images adds at least ``floor``.
        2. With it, their mean is taken to be no more than ``doubt`` standard errors below the mean so far, images
           being drawn without replacement.
        """
        done, rest, so_far = self.samples, total - self.samples, self.sums.get(name, 0.0)
        if rest <= 0:
            return so_far
        if doubt is None or done < 2:
            return so_far + rest * floor
        mean = self.mean(name)
        variance = max(0.0, self.squares[name] - done * mean * mean) / (done - 1)
        error = math.sqrt(variance * (1 / done + 1 / rest))
        return so_far + rest * max(floor, mean - doubt * error)


def measure(
    task: Task, outputs: Any, images: Tensor, targets: Any, features: Tensor, teacher: tuple[Any, Tensor]
) -> dict[str, Tensor]:
    """Return each measure of each image, shape (N,).

    A task of the user's gives means of batches: these stand for each of their images.

    Args:
        task: what the network is for.
        outputs: of the network; logits, shape (N, classes), for classification.
        images: shape (N, C, H, W).
        targets: what the data say of the images; labels, shape (N,), for classification.
        features: what leaves the last replaceable block, dimension 0 a multiple of N.
        teacher: the teacher's outputs and features, of the same shapes.

    Raises:
        UsageError: the task's loss is below what it says it can be.
    """
    expected, wanted = teacher
    distance = (features.float() - wanted.float()).square().reshape(len(images), -1).mean(1)
    if not isinstance(task, Classification):
        return {**_of_batch(task, outputs, images, targets), "feature_mse": distance}
    ours, theirs = (F.log_softmax(found.float(), dim=1) for found in (outputs, expected))
    return {
        "loss": cross_entropy(outputs.float(), targets, reduction="none"),
        "wrong": (outputs.argmax(1) != targets).float(),
        "kl": F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).clamp_min(0),
        "feature_mse": distance,
    }


def _of_batch(task: Task, outputs: Any, images: Tensor, targets: Any) -> dict[str, Tensor]:
    loss, metric = (total / len(images) for total in task.totals(outputs, images, targets))
    if loss < task.least_loss:
        raise UsageError(
            f"the loss of task {task.name!r} is {loss:.4g} on a batch, below its least_loss of {task.least_loss:g}, by "
            "which ranking stops losers early; give the task another least_loss, -math.inf where nothing is known"
        )
    return {
        name: torch.full((len(images),), mean, dtype=torch.float64)
        for name, mean in (("loss", loss), ("metric", metric))
    }
