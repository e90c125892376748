"""What alignment makes small: the distance to the teacher's features at the border of every block.

The student runs as a whole, and gradients go from every border back to its first block: each block sees the inputs that
it will have, and answers for what those behind it make of its output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...transformer.ir.block import Block, BlockKind
from ...transformer.ir.graph import Graph
from ..pretraining.nmse import nmse
from ..pretraining.trainer import to_unit_length
from .lesson import Lesson


def learning(graph: Graph) -> tuple[Block, ...]:
    """Return the blocks that alignment trains: all but stems and heads, which stay the teacher's."""
    return tuple(block for block in graph.blocks if block.kind not in (BlockKind.STEM, BlockKind.HEAD))


class Imitation(nn.Module):
    """The student as a function that maps images to its error against the teacher's features."""

    def __init__(self, student: Graph, teacher: Graph, variances: Mapping[str, float]) -> None:
        """Take two graphs of the same blocks, and the variance of each block's output in the teacher."""
        super().__init__()
        self.student = student.module
        self._graphs = student, teacher  # in a tuple, so that the teacher's parameters are none of this module's
        self._variances = {block.name: variances[block.name] for block in learning(teacher)}

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over all borders of the squared error over the variance, for images (N, C, H, W)."""
        student, teacher = self._graphs
        wanted: dict[str, list[Tensor]] = {name: [] for name in self._variances}
        errors: list[Tensor] = []

        def teach(block: Block, _: Tensor, features: Tensor) -> None:
            if block.name in wanted:
                wanted[block.name].append(features)

        def compare(block: Block, _: Tensor, features: Tensor) -> None:
            if block.name in wanted:  # a tied block runs several times, in the teacher's order
                errors.append(nmse(features, wanted[block.name].pop(0), self._variances[block.name]))

        with torch.no_grad(), teacher.observe(teach):
            teacher.module(images)
        with student.observe(compare):
            student.module(images)
        return torch.stack(errors).mean()


class Features(Lesson):
    """Trains the blocks of a student on the teacher's features: no labels, so for every task.

    The gradient of each block is scaled to length 1, so that the rate is the length of its step: at any depth, whatever
    the scale of its features. Blocks that are the teacher's own go a share of the way. All else stays as it is.
    """

    def __init__(
        self,
        student: Graph,
        teacher: Graph,
        variances: Mapping[str, float],
        replaced: Collection[str],
        teacher_share: float,
    ) -> None:
        """Freeze the parameters of ``student`` that are in no block; ``teacher`` is left as it is.

        ``variances`` are those of the teacher's features by block, ``replaced`` the blocks that are candidates.
        """
        self.learner = Imitation(student, teacher, variances)
        self._student, self._teacher = student, teacher
        self._share = teacher_share
        student.module.requires_grad_(False)
        self.blocks: list[list[nn.Parameter]] = []
        """Parameters of each block that has any; those that blocks share belong to the first."""
        self._own: list[bool] = []
        seen: set[int] = set()
        for block in learning(student):
            found = [p for p in block.module.parameters() if id(p) not in seen and p.is_floating_point()]
            seen |= {id(p.requires_grad_(True)) for p in found}
            if found:
                self.blocks.append(found)
                self._own.append(block.name not in replaced)

    def begin(self) -> None:
        """Put the blocks in training mode; stem, head and what is between blocks are frozen."""
        self._teacher.module.eval()
        self._student.module.eval()
        for block in learning(self._student):
            block.module.train()

    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean error of a batch; targets are not looked at."""
        error: Tensor = learner(images)
        return error

    def shape(self) -> None:
        """Scale the gradient of each block to length 1, those of the teacher's own to a share of it."""
        for parameters, own in zip(self.blocks, self._own, strict=True):
            to_unit_length(parameters)
            if own:
                gradients = [p.grad for p in parameters if p.grad is not None]
                torch._foreach_mul_(gradients, self._share)  # pyright: ignore[reportPrivateImportUsage]
