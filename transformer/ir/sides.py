"""Blocks that read more than their input, among modules that know of one input only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...op_library.tensor_spec import TensorSpec


class MainInput(nn.Module):
    """Runs a replacement of one input where the graph also passes on what the teacher's block reads beside it."""

    takes_sides = True
    """Modules that say so are called with all that the block reads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, *sides: Tensor) -> Tensor:
        """Map the block's input to its output."""
        result: Tensor = self.module(x)
        return result


class Alone(nn.Module):
    """Runs a block by itself: random values of the right shape stand for what it reads beside its input.

    For timing, where values do not matter.
    """

    def __init__(self, module: nn.Module, input: TensorSpec, sides: Sequence[TensorSpec]) -> None:
        super().__init__()
        self.module, self._rows = module, input.batch
        self._factors = [side.batch for side in sides]
        generator = torch.Generator().manual_seed(0)
        for position, side in enumerate(sides):
            shape = side.shape if side.batch == 0 else (1, *side.shape)
            value = torch.randn(shape, generator=generator).to(side.torch_dtype)
            self.register_buffer(f"side{position}", value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map the block's input (N, ...) to its output."""
        samples = x.size(0) // self._rows
        sides = []
        for position, factor in enumerate(self._factors):
            side = self.get_buffer(f"side{position}")
            sides.append(side if factor == 0 else side.expand(samples * factor, *side.shape[1:]))
        result: Tensor = self.module(x, *sides)
        return result
