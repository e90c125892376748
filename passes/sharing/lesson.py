"""What the students of a shared network learn, one pass after the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ...transformer.contracts.task import Task
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ...transformer.tools.nested import map_leaves
from ..finetuning.features import Features, learning
from ..finetuning.labels import objective_of
from ..finetuning.lesson import Lesson
from ..finetuning.recipe import FinetuneRecipe
from .network import SharedBlock, SharedNetwork, dropouts
from .plan import Plan, Turn


class Remembered(nn.Module):
    """A network that keeps what it made of the last images, and runs once on the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so that its parameters are none of this module's
        self._last: tuple[Tensor, Any] | None = None

    def forward(self, images: Tensor) -> Any:
        """Return the outputs for images (N, C, H, W), without gradients."""
        if self._last is None or self._last[0] is not images:
            with torch.no_grad():
                self.keep(images, self._network[0](images))
        assert self._last is not None
        return self._last[1]

    def keep(self, images: Tensor, outputs: Any) -> None:
        """Keep outputs that were made elsewhere."""
        self._last = images, map_leaves(outputs, lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf)


class _Told(nn.Module):
    """A learner that tells what it made of its images."""

    def __init__(self, learner: nn.Module, kept: Remembered) -> None:
        super().__init__()
        self._learner, self._kept = (learner,), kept

    def forward(self, images: Tensor) -> Any:
        outputs = self._learner[0](images)
        self._kept.keep(images, outputs)
        return outputs


class SharedLabels(Lesson):
    """Trains the full network on labels and the frozen teacher, students on whom the schedule names.

    In place (``teach=full``): students learn the full network's outputs of the same step, without dropout, and no
    gradient goes into what teaches them.
    """

    def __init__(
        self,
        shared: SharedNetwork,
        teacher: nn.Module,
        task: Task,
        plan: Plan,
        full: FinetuneRecipe,
        others: FinetuneRecipe,
    ) -> None:
        """Take the recipes whose factors are those of the full network's losses, and of the students'."""
        self.learner, self._shared, self._plan = shared.network, shared, plan
        self._teacher = Remembered(teacher)
        self._frozen = teacher
        self._in_place = plan.schedule.teach == "full"
        self._full, self._others = objective_of(task, full), objective_of(task, others)
        self._dropouts = [*dropouts(shared.network), *(d for b in shared.blocks.values() for d in b.dropouts())]
        self._outputs = Remembered(shared.network)
        self._turns: tuple[Turn, ...] = ()
        self._turn = Turn({}, True)

    def begin(self) -> None:
        """Put the shared network in training mode, the teacher in eval mode."""
        self.learner.train()
        self._frozen.eval()

    def turns(self, step: int) -> int:
        """Look up the passes of a step."""
        self._turns = self._plan.turns(step)
        return len(self._turns)

    def turn(self, index: int) -> None:
        """Make the network the student of the pass."""
        self._turn = self._turns[index]
        self._shared.choose(self._turn.choice)
        for layer in self._dropouts:
            layer.train(self._turn.full or not self._in_place)

    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss of a batch, times epsilon."""
        if self._turn.full:
            return self._full(_Told(learner, self._outputs), self._teacher, images, targets)
        teacher = self._outputs if self._in_place else self._teacher
        return self._turn.weight * self._others(learner, teacher, images, targets)

    def shape(self) -> None:
        """Leave the gradients as they are: added up."""


class SharedFeatures(Features):
    """Trains all students on the teacher's features at every block's border, without labels.

    The gradients of a step's passes are added up; those of each block, and of each operation with weights of its own,
    are scaled to length 1 together.
    """

    def __init__(
        self, shared: SharedNetwork, teacher: Graph, variances: Mapping[str, float], plan: Plan, teacher_share: float
    ) -> None:
        """Freeze what is in no block."""
        self._shared, self._plan = shared, plan
        self._turns: tuple[Turn, ...] = ()
        self._weight = 1.0
        self._teacher_share = teacher_share
        super().__init__(shared.graph, teacher, variances, (), teacher_share)
        owners = {id(p): name for name, block in shared.blocks.items() for p in block.own.parameters()}
        firsts = [id(parameters[0]) for parameters in self.blocks]
        self._owned = {place: owners[first] for place, first in enumerate(firsts) if first in owners}

    def steps(self, block: Block, share: float) -> list[tuple[list[nn.Parameter], float]]:
        """Return the block's own parameters, which go a share of the way where no slice uses them, and all others."""
        if not isinstance(block.module, SharedBlock):
            return super().steps(block, share)
        own, *others = block.module.shares()
        return [(own, share), *((parameters, 1.0) for parameters in others)]

    def turns(self, step: int) -> int:
        """Look up the passes of a step, without students all of whose blocks are skipped: nothing learns."""
        self._turns = tuple(turn for turn in self._plan.turns(step) if self._learns(turn))
        for place, name in self._owned.items():  # a block's own weights go all the way where they are a slice's
            block = self._shared.blocks[name]
            sliced = any(block.is_slice(turn.choice.get(name, "teacher")) for turn in self._turns)
            self.lengths[place] = 1.0 if sliced else self._teacher_share
        return len(self._turns)

    def _learns(self, turn: Turn) -> bool:
        modules = [block.module for block in learning(self._shared.graph)]
        tensors = (
            module.tensors(turn.choice.get(name, "teacher")).values() for name, module in self._shared.blocks.items()
        )
        fixed = (module.parameters() for module in modules if not isinstance(module, SharedBlock))
        return any(tensor.requires_grad for found in chain(tensors, fixed) for tensor in found)

    def turn(self, index: int) -> None:
        """Make the network the student of the pass."""
        self._weight = self._turns[index].weight
        self._shared.choose(self._turns[index].choice)

    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean error of a batch; targets are not looked at."""
        return self._weight * super().loss(learner, images, targets)
