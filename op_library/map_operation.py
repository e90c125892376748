"""Base of the operations on feature maps: shapes, layouts, types and the residual sum are the same for all."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import nn

from ..transformer.errors import UsageError, nearest
from .activations import ACTIVATIONS
from .geometry import Geometry, misfit
from .layers import Crop, OnChannelsLast, OnTokens, Residual
from .op_spec import OpSpec
from .tensor_spec import Layout, TensorSpec

MOST_BYTES = 2**29
"""An operation with larger weights is refused: it alone would outweigh a whole vision network."""


@dataclass(frozen=True, kw_only=True)
class MapOperation(OpSpec):
    """An operation on maps (N, C, H, W), at home on channels-last maps too, on tokens where it needs no neighbours.

    A subclass makes the branch; this class adds the input to it where the shapes agree, crops where no stride
    gives the output's size, permutes the layout, and sets the type.
    """

    default_activation: ClassVar[str] = "relu"
    """Activation as in the operation's source; empty if it has none."""
    adds_input: ClassVar[bool] = True
    """False for operations that hold their own identity branch."""
    activation: str = ""
    """Activation in place of the default, such as the teacher's; it becomes a suffix of the name."""

    def __post_init__(self) -> None:
        """Refuse an unknown activation; the default one is written as empty, so that a name has one spec."""
        if self.activation == self.default_activation:
            object.__setattr__(self, "activation", "")
        if self.activation and self.activation not in ACTIVATIONS:
            raise UsageError(f"unknown activation {self.activation!r}{nearest(self.activation, ACTIVATIONS)}")

    @property
    def name(self) -> str:
        """The paper's name, with ``_silu`` and the like behind it where the activation is not the default."""
        return f"{self.stem}_{self.activation}" if self.activation else self.stem

    @property
    @abstractmethod
    def stem(self) -> str:
        """Name without activation."""

    @property
    def takes_tokens(self) -> bool:
        """Whether it needs no rows and columns, so that it fits tokens too."""
        return False

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        """Return why the operation cannot map ``input`` to ``output``; None if it can."""
        reason = misfit(input, output)
        if reason is None and input.layout is Layout.TOKENS and not self.takes_tokens:
            reason = "tokens have no rows and columns for its kernel; operations of kernel 1x1 and vit fit"
        return reason or self._unfit_map(Geometry.between(input, output)) or _too_large(self, input, output)

    def _unfit_map(self, geometry: Geometry) -> str | None:
        """Return a reason of this operation's own."""
        return None

    @abstractmethod
    def _build_map(self, geometry: Geometry) -> nn.Module:
        """Make the branch from (N, C, *cropped) to (N, C', *out_size), without residual sum."""

    def _build_tokens(self, geometry: Geometry) -> nn.Module:
        """Make the branch from (N, L, C) to (N, L, C'); the geometry is that of a map of L rows and one column."""
        return OnTokens(self._build_map(geometry))

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        geometry = Geometry.between(input, output)
        tokens = input.layout is Layout.TOKENS
        module: nn.Module = self._build_tokens(geometry) if tokens else self._build_map(geometry)
        if geometry.residual and self.adds_input:
            module = Residual(module)
        if geometry.crops:
            module = nn.Sequential(Crop(geometry.in_size, geometry.cropped), module)
        if input.layout is Layout.NHWC:
            module = OnChannelsLast(module)
        return module.to(input.torch_dtype)

    @property
    def _activation(self) -> str:
        """Name of the activation in force."""
        return self.activation or self.default_activation


@lru_cache(maxsize=65536)
def _too_large(operation: MapOperation, input: TensorSpec, output: TensorSpec) -> str | None:
    """Return a reason where the weights take too much memory; counted on a module that has none."""
    with torch.device("meta"):
        module = operation._build(input, output)
    count = sum(parameter.numel() for parameter in module.parameters())
    size = count * input.torch_dtype.itemsize
    if size <= MOST_BYTES:
        return None
    return f"its {count / 1e6:.0f} million parameters take {size / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB"
