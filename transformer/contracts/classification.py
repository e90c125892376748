"""The task of data that say nothing else: one class for each image."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from .metric import TOP1, Metric
from .task import Task


@final
class Classification(Task):
    """Cross-entropy (nats) and top-1 of logits (N, classes) for labels (N,)."""

    name: ClassVar[str] = ""
    metric: ClassVar[Metric] = TOP1

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs.float(), targets)

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        """Return the share of the images whose class is right, in percent."""
        return 100 * int((outputs.argmax(1) == targets).sum()) / max(1, len(targets))

    def totals(self, outputs: Any, images: Tensor, targets: Any) -> tuple[float, float]:
        """Return both summed over the images, without rounding a mean before."""
        loss = F.cross_entropy(outputs.float(), targets, reduction="sum").item()
        return loss, 100 * int((outputs.argmax(1) == targets).sum())
