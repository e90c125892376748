"""What an operation is: a kind of replacement with its hyperparameters and the paper's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    derived: ClassVar[bool] = False
    """Whether its module is made of the block's own (``derive``), and not from the shapes at its border (``build``).
    Then what it costs and holds follows from the inside of the block."""
    weightless: ClassVar[bool] = False
    """Whether it has no weights of its own, so that there is nothing to train and nothing to keep."""
    elastic: ClassVar[str] = ""
    """Field that is its width. Of two operations that differ in it only, the narrower one's tensors are the leading
    parts of the wider one's (``elastic.py``). Empty for operations of one width."""

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

    def derive(self, module: nn.Module, calls: Sequence[tuple[TensorSpec, TensorSpec]]) -> nn.Module:
        """Make the operation from a block's ``module``, which stays as it is; derived operations only.

        ``calls`` are the contracts (input, output) of the block's calls, the first one's first.

        Raises:
            UnfitError: the operation does not fit this block; the message is the reason.
        """
        raise UnfitError(f"{self.name} is made from shapes alone; use build")

    def __str__(self) -> str:
        """The name."""
        return self.name


class DerivedSpec(OpSpec):
    """An operation that is made of its block's own module: only ``derive`` sees whether it fits."""

    derived: ClassVar[bool] = True

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        """Return None: shapes alone say nothing against it."""
        return None

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        raise UnfitError(f"{self.name} cannot be built for {input} -> {output}: it is made of the block's own module")

    @abstractmethod
    def derive(self, module: nn.Module, calls: Sequence[tuple[TensorSpec, TensorSpec]]) -> nn.Module:
        """Make the operation from a block's ``module``, which stays as it is.

        Raises:
            UnfitError: the operation does not fit this block; the message is the reason.
        """


class Family(Protocol):
    """A family of operations, registered by entry point ``hant.op_libraries``."""

    name: str
    """Prefix of its operations' names, e.g. ``efn``."""

    def specs(self) -> tuple[OpSpec, ...]:
        """Return the family's operations of the full pool, in order."""
        ...

    def parse(self, name: str) -> OpSpec | None:
        """Return the operation called ``name``, or None if it is not of this family."""
