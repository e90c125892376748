"""A replaceable region of the teacher."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from torch import nn

from ...op_library.tensor_spec import TensorSpec
from .sides import Alone, MainInput


class BlockKind(StrEnum):
    """What a block is to its network."""

    RESIDUAL = "residual"
    DOWNSAMPLE = "downsample"
    PLAIN = "plain"
    TRANSFORMER = "transformer"
    STEM = "stem"
    HEAD = "head"


@dataclass(frozen=True, eq=False)
class Block:
    """A single-entry single-exit region of the graph that one operation may replace."""

    name: str
    """Path that the network's designer would use, e.g. ``layer1.0``."""
    kind: BlockKind
    class_name: str
    """Class of the module the region comes from, e.g. ``BasicBlock``."""
    input: TensorSpec
    output: TensorSpec
    macs: int
    """Multiply-accumulates for one sample of the network's input."""
    parameters: int
    """Number of trainable values inside."""
    identity_allowed: bool
    """Whether input and output contract agree in full."""
    module: nn.Module
    """The region as a callable module; shares its parameters with the teacher."""
    target: str
    """Path of ``module`` inside ``Graph.module``."""
    signature: str
    """Hash of structure and shapes, weights left out: equal for blocks that cost the same."""
    replaceable: bool = True
    """False for stems and heads, which are timed but not replaced by default."""
    other_calls: tuple[tuple[TensorSpec, TensorSpec], ...] = ()
    """Contracts (input, output) of a tied block's second and further calls; sizes may differ over a pyramid."""
    sides: tuple[TensorSpec, ...] = ()
    """Contracts of what ``module`` reads after its input, from elsewhere in the network; replacements do without it."""
    trunk: bool = False
    """Whether the whole flow of the network is in its input, and in its output."""

    @property
    def calls(self) -> int:
        """How often the network runs it (more than once for a tied block)."""
        return 1 + len(self.other_calls)

    @property
    def contracts(self) -> tuple[tuple[TensorSpec, TensorSpec], ...]:
        """Contract (input, output) of every call, the first one's first."""
        return ((self.input, self.output), *self.other_calls)

    @property
    def distinct_calls(self) -> tuple[tuple[tuple[TensorSpec, TensorSpec], int], ...]:
        """Distinct contracts with how many calls have each, the first call's first."""
        return tuple(Counter(self.contracts).items())

    @cached_property
    def alone(self) -> nn.Module:
        """``module`` as a module of one input; anything may stand for what it reads beside."""
        return Alone(self.module, self.input, self.sides) if self.sides else self.module

    def called(self, module: nn.Module) -> nn.Module:
        """Return a replacement of one input as the graph calls it: with ``sides`` too, which it does not use."""
        if not self.sides or module is self.module or getattr(module, "takes_sides", False):
            return module
        return MainInput(module)


@dataclass(frozen=True)
class Diagnostic:
    """Why a part of the network is in no block, or what capture could not keep."""

    where: str
    """Node or module path."""
    reason: str
    source: str = ""
    """``file:line`` of the user's code, if known."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.reason}" + (f" ({self.source})" if self.source else "")
