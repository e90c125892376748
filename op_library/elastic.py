"""Operations of one kind and many widths on one set of weights: the narrow one is the leading part of the wide one.

Of two operations that differ in their width only (``OpSpec.elastic``), every tensor of the narrower one is the first
part of the wider one's along each axis. So one module holds them all; what is cut out in the end is a copy, equal to
the last bit to what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..transformer.errors import UnfitError
from ..transformer.tools.copied import copied
from .op_spec import OpSpec
from .slicing import in_order, sliceable_channels
from .tensor_spec import TensorSpec

Parts = Mapping[str, tuple[slice, ...]]
"""Name of a parameter or buffer -> which part of it the narrower operation has, one ``slice`` an axis."""


def kind_of(spec: OpSpec) -> OpSpec | None:
    """Return what the operation has in common with those of other widths; None where it has none."""
    return replace(spec, **{spec.elastic: 1.0}) if spec.elastic else None


def width_of(spec: OpSpec) -> float:
    """Return the operation's width as its name tells it; 0 where it has none."""
    return float(getattr(spec, spec.elastic)) if spec.elastic else 0.0


def leading(wide: nn.Module, narrow: nn.Module) -> dict[str, tuple[slice, ...]]:
    """Return which leading parts of the tensors of ``wide`` are those of ``narrow``.

    Raises:
        UnfitError: ``narrow`` has other layers, or is wider somewhere.
    """
    sizes = {name: tensor.shape for name, tensor in narrow.state_dict(keep_vars=True).items()}
    whole = {name: tensor.shape for name, tensor in wide.state_dict(keep_vars=True).items()}
    if sizes.keys() != whole.keys():
        odd = sorted(sizes.keys() ^ whole.keys())[0]
        raise UnfitError(f"the narrower operation is no part of the wider one: only one of them has {odd}")
    for name, shape in sizes.items():
        if len(shape) != len(whole[name]) or any(a > b for a, b in zip(shape, whole[name], strict=True)):
            raise UnfitError(
                f"the narrower operation is no part of the wider one: its {name} is {tuple(shape)}, "
                f"the wider one's {tuple(whole[name])}"
            )
    return {name: tuple(slice(0, size) for size in shape) for name, shape in sizes.items()}


def strongest_first(module: nn.Module, input: TensorSpec) -> nn.Module:
    """Return a copy of ``module`` whose inner channels stand in order of their strength, where they may be moved."""
    return in_order(module, sliceable_channels(module, input))


class Elastic(nn.Module):
    """An operation's widest module, and skeletons without weights of narrower ones that run on parts of its tensors."""

    def __init__(self, widest: nn.Module, narrower: Mapping[str, nn.Module], name: str) -> None:
        """Hold ``widest``, the operation called ``name``; ``narrower`` by name are modules whose weights do not count.

        Raises:
            UnfitError: one of them is no leading part of ``widest``.
        """
        super().__init__()
        self.widest = widest
        self.name = name
        self.parts: dict[str, Parts] = {other: leading(widest, module) for other, module in narrower.items()}
        # in a tuple, out of the modules' tree: they have no weights of their own
        self.skeletons = tuple(copied(module)[0].to("meta") for module in narrower.values())
        """The narrower modules without weights; they have modes of their own."""

    def forward(self, x: Tensor, name: str) -> Tensor:
        """Map what the block reads to its output by the operation called ``name``."""
        if name == self.name:
            made: Tensor = self.widest(x)
            return made
        narrow: Tensor = functional_call(self.skeleton(name), self.tensors(name), (x,))
        return narrow

    def skeleton(self, name: str) -> nn.Module:
        """Return the narrower operation's module without weights."""
        return self.skeletons[list(self.parts).index(name)]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of the operation called ``name``: parts of the widest one's, gradients flow into them."""
        tensors: dict[str, Tensor] = self.widest.state_dict(keep_vars=True)
        if name == self.name:
            return tensors
        parts = self.parts[name]
        return {key: tensor[parts[key]] if tensor.ndim else tensor for key, tensor in tensors.items()}

    def cut(self, name: str) -> dict[str, Tensor]:
        """Return copies of the tensors of the operation called ``name``, to be loaded into a module of its own."""
        form = torch.contiguous_format
        return {key: value.detach().clone(memory_format=form) for key, value in self.tensors(name).items()}
