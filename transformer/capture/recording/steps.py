"""What a recorded execution is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from ...tools.nested import leaves


class StepKind(StrEnum):
    """What a step does."""

    INPUT = "input"
    """A tensor given to the network; ``target`` is its position."""
    ATTRIBUTE = "attribute"
    """A parameter or buffer; ``target`` is its path, or a name in ``Recording.constants``."""
    MODULE = "module"
    """A call of a leaf module; ``target`` is its path."""
    CALL = "call"
    """A call of a torch function; ``target`` is the function."""
    ASSIGN = "assign"
    """An in-place operation without a pure form (``x[i] = y``): ``target`` runs on a copy of its first argument."""


@dataclass(frozen=True)
class Ref:
    """The value of a step, as an argument of a later one."""

    index: int


@dataclass(frozen=True)
class PerSample:
    """An integer argument that is ``factor`` times the batch size."""

    factor: int


@dataclass(frozen=True)
class WhenTraining:
    """An argument that is ``value`` in training and false or zero in evaluation."""

    value: Any


@dataclass(frozen=True)
class InputDevice:
    """The device that the network's input lives on."""


@dataclass
class Step:
    """One operation of the execution, in order."""

    index: int
    kind: StepKind
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    scope: tuple[str, ...]
    """Keys of the module calls it happened in, outermost first."""
    shape: tuple[int, ...] | None
    """Shape of its tensor at batch ``Recording.batch``; None where the result is no single tensor."""
    dtype: torch.dtype | None = None
    source: str = ""
    """``file:line`` of the model's code."""
    macs: int = 0
    """Multiply-accumulates for one sample."""
    batch_dims: tuple[tuple[int, int], ...] = ()
    """(dimension, factor) of the dimensions whose size is factor times the batch."""
    writes_into: int | None = None
    """Step whose value the original operation overwrote, for in-place operations."""
    contested: bool = False
    """Whether it overwrites memory that other values share."""

    @property
    def is_tensor(self) -> bool:
        """Whether the result is one tensor."""
        return self.shape is not None

    @property
    def name(self) -> str:
        """Short name of what it does, for messages."""
        if self.kind in (StepKind.MODULE, StepKind.ATTRIBUTE, StepKind.INPUT):
            return str(self.target)
        return str(getattr(self.target, "__name__", self.target))

    def refs(self) -> list[int]:
        """Return the steps it reads, each once, in order of arguments."""
        found = (leaf.index for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Ref))
        return list(dict.fromkeys(found))


@dataclass
class ModuleCall:
    """One call of a module. ``key`` is its path, with ``@n`` behind from the second call on."""

    key: str
    path: str
    module: nn.Module
    parent: str | None
    leaf: bool
    arguments: tuple[Any, ...] = ()
    """Positional arguments, tensors as ``Ref``."""
    keywords: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    """What it returned, tensors as ``Ref``."""


@dataclass
class Recording:
    """The execution of a network, with integers that follow the batch size kept symbolic."""

    model: nn.Module
    steps: list[Step]
    calls: dict[str, ModuleCall]
    inputs: tuple[int, ...]
    """Steps of the tensors that the network is given."""
    arguments: tuple[Any, ...]
    """Its positional arguments, tensors as ``Ref``."""
    output: Any
    """What the network returns, tensors as ``Ref``."""
    constants: dict[str, Tensor]
    """Tensors that the code made and the model does not own, by name."""
    batch: int
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    """(module, reason, source) of what the recording could not keep."""
    returns_more: bool = False
    """Whether the network returns something of another form in training, such as auxiliary outputs."""

    def calls_of(self, path: str) -> list[ModuleCall]:
        """Return the calls of the module at ``path``."""
        return [call for call in self.calls.values() if call.path == path]

    def has_effect(self, step: Step) -> bool:
        """Return whether a step does more than make a value: it draws random numbers or updates statistics."""
        if step.kind is StepKind.MODULE:
            module = self.model.get_submodule(step.target)
            return "drop" in type(module).__name__.lower() or next(module.buffers(), None) is not None
        return step.kind is StepKind.CALL and ("dropout" in step.name or "batch_norm" in step.name)
