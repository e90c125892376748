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
        self._taught: tuple[Tensor, dict[str, list[Tensor]]] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over all borders of the squared error over the variance, for images (N, C, H, W)."""
        student = self._graphs[0]
        wanted = {name: iter(features) for name, features in self._teach(images).items()}
        errors: list[Tensor] = []

        def compare(block: Block, _: Tensor, features: Tensor) -> None:
            if block.name in wanted:  # a tied block runs several times, in the teacher's order
                errors.append(nmse(features, next(wanted[block.name]), self._variances[block.name]))

        with student.observe(compare):
            student.module(images)
        return torch.stack(errors).mean()

    def _teach(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Return the teacher's features; those of the same images are not made anew."""
        if self._taught is None or self._taught[0] is not images:
            found: dict[str, list[Tensor]] = {name: [] for name in self._variances}

            def teach(block: Block, _: Tensor, features: Tensor) -> None:
                if block.name in found:
                    found[block.name].append(features)

            self._taught = None  # the features of the last images make room
            teacher = self._graphs[1]
            with torch.no_grad(), teacher.observe(teach):
                teacher.module(images)
            self._taught = images, found
        return self._taught[1]


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
        student.module.requires_grad_(False)
        self.blocks: list[list[nn.Parameter]] = []
        """Parameters that take a step together: of each block that has any; those that blocks share are the first's."""
        self.lengths: list[float] = []
        """Of the step of each of them, as shares of the rate."""
        seen: set[int] = set()
        for block in learning(student):
            share = 1.0 if block.name in replaced else teacher_share
            for parameters, part in self.steps(block, share):
                found = [p for p in parameters if id(p) not in seen and p.is_floating_point()]
                seen |= {id(p.requires_grad_(True)) for p in found}
                if found:
                    self.blocks.append(found)
                    self.lengths.append(part)

    def steps(self, block: Block, share: float) -> list[tuple[list[nn.Parameter], float]]:
        """Return the parameters of a block that take a step together, with its length: ``share`` of the rate."""
        return [(list(block.module.parameters()), share)]

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
        for parameters, share in zip(self.blocks, self.lengths, strict=True):
            to_unit_length(parameters)
            gradients = [p.grad for p in parameters if p.grad is not None]
            if share != 1 and gradients:
                torch._foreach_mul_(gradients, share)  # pyright: ignore[reportPrivateImportUsage]
