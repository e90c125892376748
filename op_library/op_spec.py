"""What an operation is: a kind of replacement with its hyperparameters and the paper's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn

from ..transformer.errors import UnfitError
from .tensor_spec import TensorSpec


@dataclass(frozen=True)
class OpSpec(ABC):
    """One operation of a pool. Fields of a subclass are its hyperparameters.

    Pure data: two specs with one name are equal, and a name is enough to make the spec again
    (``parse`` of its family), so runs store names only.
    """

    family: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """The paper's name, e.g. ``efn_3x3_e6_se0.25``."""

    @abstractmethod
    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        """Return why the operation cannot map ``input`` to ``output``; None if it can."""

    @abstractmethod
    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        """Make the module; called only where ``unfit`` is None."""

    def build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        """Make the module that maps a tensor of ``input`` to one of ``output``, freshly initialised.

        Raises:
            UnfitError: the operation does not fit, with the reason.
        """
        reason = self.unfit(input, output)
        if reason is not None:
            raise UnfitError(f"{self.name} does not fit {input} -> {output}: {reason}")
        return self._build(input, output)

    def __str__(self) -> str:
        """The name."""
        return self.name


class Family(Protocol):
    """A family of operations, registered by entry point ``hant.op_libraries``."""

    name: str
    """Prefix of its operations' names, e.g. ``efn``."""

    def specs(self) -> tuple[OpSpec, ...]:
        """Return the family's operations of the full pool, in order."""
        ...

    def parse(self, name: str) -> OpSpec | None:
        """Return the operation called ``name``, or None if it is not of this family."""
