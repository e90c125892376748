"""The teacher's own block, and nothing at all (HANT section 3, "Candidate operations")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...transformer.errors import UnfitError
from ..family import PatternFamily
from ..op_spec import OpSpec
from ..tensor_spec import TensorSpec


@dataclass(frozen=True)
class Teacher(OpSpec):
    """The block as it is, with its trained weights: it always fits, as ``block.module``."""

    family: ClassVar[str] = "teacher"

    @property
    def name(self) -> str:
        """``teacher``."""
        return "teacher"

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        """Return None: a block fits in its own place."""
        return None

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        raise UnfitError(
            f"teacher cannot be built for {input} -> {output}: it is the block's own module; use block.module"
        )


@dataclass(frozen=True)
class Identity(OpSpec):
    """Skips the block: changes the network's depth."""

    family: ClassVar[str] = "identity"

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
