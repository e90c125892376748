"""What a network is measured by before fine-tuning, added up image by image (HANT table 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

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


def measure_of(metric: str) -> str:
    """Return the name of the measure behind ``metric``.

    Raises:
        UsageError: no such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")
    return METRICS[metric]


@dataclass
class Totals:
    """Sums over the images so far, in double precision."""

    samples: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METRICS.values(), 0.0))
    squares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METRICS.values(), 0.0))

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch: for each measure the values of its images, shape (N,)."""
        for name, value in values.items():
            exact = value.double().nan_to_num(nan=_BROKEN, posinf=_BROKEN)
            self.sums[name] += exact.sum().item()
            self.squares[name] += exact.square().sum().item()
        self.samples += len(next(iter(values.values())))

    def mean(self, name: str) -> float:
        """Return the mean of a measure over the images so far."""
        return self.sums[name] / max(1, self.samples)

    @property
    def accuracy(self) -> float:
        """Top-1, percent."""
        return 100 * (1 - self.mean("wrong"))

    def least(self, name: str, total: int, doubt: float | None = None) -> float:
        """Return what the sum over all ``total`` images will be at least.

        1. Without ``doubt`` that is certain: the remaining images add at least 0.
        2. With it, their mean is taken to be no more than ``doubt`` standard errors below the mean so far, images
           being drawn without replacement.
        """
        done, rest = self.samples, total - self.samples
        if doubt is None or rest <= 0 or done < 2:
            return self.sums[name]
        mean = self.mean(name)
        variance = max(0.0, self.squares[name] - done * mean * mean) / (done - 1)
        error = math.sqrt(variance * (1 / done + 1 / rest))
        return self.sums[name] + rest * max(0.0, mean - doubt * error)


def measure(logits: Tensor, labels: Tensor, features: Tensor, teacher: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Return each measure of each image, shape (N,).

    Args:
        logits: of the network, shape (N, classes).
        labels: shape (N,).
        features: what leaves the last replaceable block, dimension 0 a multiple of N.
        teacher: the teacher's logits and features, of the same shapes.
    """
    expected, wanted = teacher
    ours, theirs = (F.log_softmax(found.float(), dim=1) for found in (logits, expected))
    return {
        "loss": F.cross_entropy(logits.float(), labels, reduction="none"),
        "wrong": (logits.argmax(1) != labels).float(),
        "kl": F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).clamp_min(0),
        "feature_mse": (features.float() - wanted.float()).square().reshape(len(labels), -1).mean(1),
    }
