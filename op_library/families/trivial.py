"""The teacher's own block, and nothing at all (HANT section 3, "Candidate operations")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..family import PatternFamily
from ..op_spec import DerivedSpec, OpSpec
from ..tensor_spec import TensorSpec


@dataclass(frozen=True)
class Teacher(DerivedSpec):
    """The block as it is, with its trained weights: it always fits."""

    family: ClassVar[str] = "teacher"
    weightless: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``teacher``."""
        return "teacher"

    def derive(self, module: nn.Module, calls: Sequence[tuple[TensorSpec, TensorSpec]]) -> nn.Module:
        """Return ``module`` itself."""
        return module


@dataclass(frozen=True)
class Identity(OpSpec):
    """Skips the block: changes the network's depth."""

    family: ClassVar[str] = "identity"
    weightless: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``identity``."""
        return "identity"

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        """Return how input and output differ; None if they agree in full."""
        return None if input == output else f"identity keeps its input {input}, but the output is {output}"

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        return nn.Identity()


teacher = PatternFamily("teacher", (Teacher(),), "teacher", lambda _: Teacher())
identity = PatternFamily("identity", (Identity(),), "identity", lambda _: Identity())
