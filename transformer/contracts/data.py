"""The user's data: two data sets of (float tensor (C, H, W), int label), or what a task of the user's takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from .task import Classification, Task

Sample = tuple[torch.Tensor, int]


@dataclass(frozen=True)
class Data:
    """Training and test data.

    ``test`` is never used before the report. The part used for scoring and ranking is cut from ``train``.
    """

    train: Dataset[Sample]
    test: Dataset[Sample]
    name: str = "data"
    augment: Any = None
    """Optional function on a batch (N, C, H, W) and a ``torch.Generator``, for fine-tuning only.

    It treats each image by itself: of several processes that share a batch, each has its own part of the images.
    """
    changed: Any = None
    """Optional function of a seed that returns ``train`` with every image augmented anew: what an epoch of fine-tuning
    trains on, in place of ``train`` and ``augment``."""
    task: Task = field(default_factory=Classification)
    """What the network is for. With another than classification, labels may be anything."""
    notes: tuple[str, ...] = ()
    """What the user should know of the data, each one line: images that were skipped."""
