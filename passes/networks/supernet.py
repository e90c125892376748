"""One network that can be any network of the run's candidates (weight sharing)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...transformer.contracts.context import Context
from ...transformer.ir.block import Block
from .assemble import CandidateWeights, independent


class Switch(nn.Module):
    """Runs one of a block's candidates; only the active one is a part of the network."""

    takes_sides = True

    def __init__(self, active: nn.Module) -> None:
        super().__init__()
        self.active = active

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the block reads to its output by the active candidate."""
        result: Tensor = self.active(*inputs)
        return result


class Supernet:
    """The teacher with a switch in every replaceable block: choosing costs nothing, nothing is assembled anew.

    Exact: the same operations on the same values as in the network that ``build_student`` makes of the choice.
    """

    def __init__(self, context: Context) -> None:
        self._weights = CandidateWeights(context.store)
        self._device = context.device
        # Networks are lowered on the CPU: elsewhere a copy is evaluated, so that the teacher stays where it is.
        self.graph = context.teacher if context.device.type == "cpu" else independent(context.teacher)
        """The teacher on the evaluation device."""
        self._blocks: dict[str, Block] = {block.name: block for block in self.graph.replaceable}
        self._switches = {name: Switch(block.module) for name, block in self._blocks.items()}
        self.module = self.graph.replace(self._switches).module.to(context.device).eval()
        self.last = self.graph.replaceable[-1].target
        """Path of the last replaceable block inside ``module``."""

    def choose(self, choice: Mapping[str, str]) -> nn.Module:
        """Return the network of ``choice`` (block -> operation), in eval mode; valid until the next call."""
        for name, switch in self._switches.items():
            switch.active = self.candidate(name, choice.get(name, "teacher"))
        return self.module

    def candidate(self, block: str, operation: str) -> nn.Module:
        """Return a candidate as the graph calls it, on the evaluation device, in eval mode; read once."""
        found = self._blocks[block]
        module = found.module if operation == "teacher" else found.called(self._weights.module(found, operation))
        return module.to(self._device).eval()

    def outputs(self, choice: Mapping[str, str], images: Tensor) -> Any:
        """Return what the network of ``choice`` makes of ``images`` (N, C, H, W)."""
        with torch.no_grad():
            return self.choose(choice)(images)
