"""What fine-tuning makes small: cross-entropy and distillation from the teacher (HANT section 2.2 and A.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...transformer.contracts.task import Classification, Task, cross_entropy
from .lesson import Lesson
from .recipe import FinetuneRecipe

Objective = Callable[[nn.Module, nn.Module, Tensor, Any], Tensor]
"""Mean loss of a batch, from the student, the teacher, the images (N, C, H, W) and what the data say of them."""


def loss_of(logits: Tensor, labels: Tensor, taught: Tensor, recipe: FinetuneRecipe) -> Tensor:
    """Return gamma_CE x cross-entropy + gamma_KL x KL(teacher || student); logits and ``taught`` are (N, classes)."""
    logits, taught = (x.float() if x.dtype.itemsize < 4 else x for x in (logits, taught))
    loss = recipe.cross_entropy * cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if recipe.distillation:
        divergence = F.kl_div(
            F.log_softmax(logits, 1), F.log_softmax(taught, 1), reduction="batchmean", log_target=True
        )
        loss = loss + recipe.distillation * divergence
    return loss


def objective_of(task: Task, recipe: FinetuneRecipe) -> Objective:
    """Return what training makes small: the task's own loss; for classification the paper's, with its factors."""

    def objective(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(images) if recipe.distillation else images
        return loss_of(student(images), labels, taught, recipe)

    return objective if isinstance(task, Classification) else task.train_loss


@dataclass
class Labels(Lesson):
    """Trains a student on what the data say of the images, and on the teacher's answers."""

    learner: nn.Module
    teacher: nn.Module
    task: Task
    recipe: FinetuneRecipe

    def __post_init__(self) -> None:
        self._objective = objective_of(self.task, self.recipe)
        self._taught = cast(nn.Module, torch.compile(self.teacher)) if self.recipe.compiled else self.teacher

    def begin(self) -> None:
        """Put the student in training mode, the teacher in eval mode."""
        self.learner.train()
        self.teacher.eval()

    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss of a batch."""
        return self._objective(learner, self._taught, images, targets)

    def shape(self) -> None:
        """Leave the gradients as they are."""
