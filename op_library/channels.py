"""The inner channels of a block: which axes of its tensors run over the same channels, and which may become narrower.

The block runs once, on fake tensors. Every torch function that it calls says what becomes of the axes of its inputs: a
dense convolution or linear layer ends the channels that it reads and begins new ones; norms, activations, pooling and
depthwise convolutions keep them; sums and products make two one; whatever is not known here holds them fixed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ..transformer.tools.modes import evaluating, preserved
from ..transformer.tools.nested import leaves
from .tensor_spec import Layout, TensorSpec

Axis = tuple[str, int]
"""Name of a parameter or buffer, and one of its dimensions."""

_KEEPING = re.compile(
    r"relu6?|[sc]?elu|[sg]elu|leaky_relu|silu|mish|softplus|erf|hard(swish|sigmoid|tanh)|(log)?sigmoid|tanh|clamp|clip|abs|neg"
    r"|r?sqrt|exp|square|(alpha_|feature_)?dropout([123]d)?|contiguous|clone|detach|to|float|type|data"
    r"|(adaptive_)?(max|avg)_pool[123]d|interpolate|upsample|pad"
)
"""Functions whose outputs lie where their inputs do, as far as sizes agree."""
_MEETING = re.compile(r"[ir]?(add|sub|mul|div|truediv)|maximum|minimum")
_RESHAPING = re.compile(r"view|reshape|(un)?flatten|(un)?squeeze|expand")
_MOVING = re.compile(r"permute|transpose|swapaxes|movedim|T|mT|mean|sum|amax|amin|var|std")
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
"""Sizes that tell the dimensions of a tensor apart."""


@dataclass(frozen=True)
class Channels:
    """Channels that a layer of the block makes, with all axes that run over them."""

    layer: str
    """Path of the layer that makes them."""
    size: int
    axes: tuple[Axis, ...]
    consumers: tuple[Axis, ...]
    """The axes among them by which dense layers read the channels."""
    fixed: str
    """Why there cannot be fewer of them; empty where there can."""


@dataclass(eq=False)
class _Group:
    size: int
    axes: dict[Axis, None] = field(default_factory=dict)
    producers: dict[Axis, None] = field(default_factory=dict)
    consumers: dict[Axis, None] = field(default_factory=dict)
    fixed: str = ""
    positions: int = 0
    """Values of a channel in one sample, at most."""
    into: _Group | None = None


Axes = list[_Group | None]
"""The group of each dimension of a tensor."""


def inner_channels(module: nn.Module, input: TensorSpec) -> tuple[Channels, ...]:
    """Return the channels that the layers of ``module`` make of an input; the module is left as it was."""
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    with evaluating(module), preserved(module), torch.enable_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2 * input.batch, *input.shape, dtype=input.torch_dtype, device=device)
        spread = _Spread(module, x, 1 if input.layout is Layout.NCHW else x.ndim - 1)
        with spread:
            output = module(x)
    spread.hold(output, "are the block's output")
    return tuple(spread.channels(gates=prod(input.spatial) > 1))


class _Spread(TorchFunctionMode):
    """Follows the channels through a run of the block."""

    def __init__(self, module: nn.Module, x: Tensor, axis: int) -> None:
        super().__init__()
        named = (*module.named_parameters(), *module.named_buffers())
        self._names = {id(tensor): name for name, tensor in named}
        self._axes: dict[int, Axes] = {}
        self._alive: list[Tensor] = []
        own: Axes = [None] * x.ndim
        own[axis] = _Group(x.shape[axis], fixed="are the block's input")
        self._set(x, own)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run the function, and see what becomes of the channels."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(isinstance(leaf, Tensor) for leaf in leaves(result)):  # others ask for shapes and types
            name = getattr(func.__self__, "__name__", "") if func.__name__ == "__get__" else func.__name__
            rule = self._rule(name.strip("_"))
            if rule is None or not isinstance(result, Tensor):
                self.hold((args, kwargs), f"go through {name}")
            else:
                self._set(result, rule(func, args, kwargs, result))
        return result

    def channels(self, gates: bool) -> Iterator[Channels]:
        """Yield what was found; ``gates`` says that channels of one value a sample are those inside a gate."""
        groups = {id(group): group for axes in self._axes.values() for group in map(_root, axes) if group is not None}
        for group in groups.values():
            if not group.producers:
                continue
            layer = _layer(next(iter(group.producers))[0])
            fixed = group.fixed
            if not fixed and not group.consumers:
                fixed = "are read by no dense layer"
            if not fixed and gates and group.positions == 1:
                fixed = "see maps of 1x1 only, as inside a gate"
            axes, consumers = tuple(group.axes), tuple(group.consumers)
            yield Channels(
                layer, group.size, axes, consumers, f"the channels of {layer or 'a layer'} {fixed}" if fixed else ""
            )

    def hold(self, values: Any, reason: str) -> None:
        """Fix the channels of all tensors in ``values``."""
        for leaf in leaves(values):
            if isinstance(leaf, Tensor):
                self._fix(self._of(leaf), reason)

    # what becomes of the axes

    def _rule(self, name: str) -> Callable[[Any, tuple[Any, ...], dict[str, Any], Tensor], Axes] | None:
        rules = {
            re.compile("conv[123]d"): self._conv,
            re.compile("linear"): self._linear,
            re.compile("batch_norm"): self._batch_norm,
            re.compile("(layer|rms)_norm"): self._layer_norm,
            _KEEPING: self._kept,
            _MEETING: self._meet,
            _RESHAPING: self._reshaped,
            _MOVING: self._moved,
        }
        return next((rule for pattern, rule in rules.items() if pattern.fullmatch(name)), None)

    def _conv(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, args, strict=False)) | kwargs
        x, weight, groups = self._of(given["input"]), given["weight"], int(given.get("groups", 1))
        kernel, channels = self._of(weight), given["input"].shape[1]
        self._fix(x[2:], "are convolved over")
        if given.get("bias") is not None:
            self._unite(kernel[0], self._of(given["bias"])[0])
        if groups == 1:
            return [x[0], self._through(x[1], weight), *[None] * (result.ndim - 2)]
        if groups == channels == weight.shape[0]:
            return [x[0], self._unite(x[1], kernel[0]), *[None] * (result.ndim - 2)]
        self._fix([x[1], *kernel], f"meet {self._layer_of(weight)}, which has {groups} groups")
        if kernel[0] is not None:
            kernel[0].producers[self._names[id(weight)], 0] = None
        return [x[0], kernel[0], *[None] * (result.ndim - 2)]

    def _linear(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        x, weight = self._of(given["input"]), given["weight"]
        if given.get("bias") is not None:
            self._unite(self._of(weight)[0], self._of(given["bias"])[0])
        return [*x[:-1], self._through(x[-1], weight)]

    def _through(self, read: _Group | None, weight: Tensor) -> _Group | None:
        """End the channels that a dense layer reads; return those that it makes."""
        made, taken = self._of(weight)[:2]
        name = self._names.get(id(weight))
        if name is None or made is None or taken is None:
            self._fix([read], "are read by weights that are computed")
            return None
        taken = self._unite(read, taken)
        assert taken is not None
        taken.consumers[name, 1] = None
        made.producers[name, 0] = None
        return made

    def _batch_norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        return self._norm(1, args, kwargs)

    def _layer_norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
        if len(shape) != 1 or sum(isinstance(leaf, Tensor) for leaf in leaves((args, kwargs))) < 2:
            self.hold((args, kwargs), "are normalised together with other axes, or without weights")
        return self._norm(-1, args, kwargs)

    def _norm(self, axis: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Axes:
        x, *vectors = (leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor))
        axes = list(self._of(x))
        for vector in vectors:
            own = self._of(vector)[0]
            if own is None:
                self._fix([axes[axis]], "are normalised by weights that are computed")
            axes[axis] = self._unite(axes[axis], own)
        return axes

    def _meet(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        operands = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        axes: Axes = [None] * result.ndim
        for place in range(result.ndim):
            met: Axes = []
            for operand in operands:
                own = place - result.ndim + operand.ndim
                if own >= 0 and operand.shape[own] == result.shape[place]:
                    met.append(self._of(operand)[own])
            if None in met and place > 0:
                self._fix(met, "meet values that no layer of the block makes")
            for group in met:
                axes[place] = self._unite(axes[place], group)
        return axes

    def _reshaped(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        """Keep the axes that have the same size and the same number of values before them as before."""
        axes: Axes = [None] * result.ndim
        before = {prod(result.shape[:place]): place for place, size in enumerate(result.shape) if size > 1}
        for place, group in enumerate(self._of(args[0])):
            there = before.get(prod(args[0].shape[:place]))
            if group is None or there is None or result.shape[there] != args[0].shape[place]:
                self._fix([group], f"go through {func.__name__}")
            else:
                axes[there] = group
        return axes

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        """Run the function on a tensor whose dimensions can be told apart by their sizes."""
        axes = self._of(args[0])
        sizes = _PRIMES[: len(axes)]
        moved = func(torch.empty(sizes, device="meta"), *args[1:], **kwargs).shape
        for size, group in zip(sizes, axes, strict=True):
            if size not in moved:
                self._fix([group], f"go through {func.__name__}")
        return [axes[sizes.index(size)] if size in sizes else None for size in moved]

    def _kept(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Axes:
        x = args[0] if args else kwargs["input"]
        pairs = list(zip(self._of(x), x.shape, result.shape, strict=True))
        self._fix([group for group, before, after in pairs if before != after], f"go through {func.__name__}")
        return [group if before == after else None for group, before, after in pairs]

    # groups

    def _of(self, tensor: Tensor) -> Axes:
        """Return the groups of a tensor's axes; each axis of a parameter or buffer begins as a group of its own."""
        name = self._names.get(id(tensor))
        if name is not None and id(tensor) not in self._axes:
            own = [_Group(size, {(name, place): None}) for place, size in enumerate(tensor.shape)]
            self._axes[id(tensor)] = list(own)
        return [_root(group) for group in self._axes.get(id(tensor), [None] * tensor.ndim)]

    def _set(self, tensor: Tensor, axes: Axes) -> None:
        self._axes[id(tensor)] = axes
        self._alive.append(tensor)  # so that no other tensor gets its id
        for place, group in enumerate(map(_root, axes)):
            if group is not None and place > 0:
                values = tensor.numel() // max(1, tensor.shape[0] * tensor.shape[place])
                group.positions = max(group.positions, values)

    def _fix(self, axes: Axes, reason: str) -> None:
        for group in map(_root, axes):
            if group is not None:
                group.fixed = group.fixed or reason

    def _unite(self, one: _Group | None, other: _Group | None) -> _Group | None:
        one, other = _root(one), _root(other)
        if one is None or other is None or one is other:
            return one or other
        one.axes |= other.axes
        one.producers |= other.producers
        one.consumers |= other.consumers
        one.fixed = one.fixed or other.fixed
        one.positions, other.into = max(one.positions, other.positions), one
        return one

    def _layer_of(self, tensor: Tensor) -> str:
        return _layer(self._names.get(id(tensor), "")) or "a layer"


def _root(group: _Group | None) -> _Group | None:
    while group is not None and group.into is not None:
        group = group.into
    return group


def _layer(tensor: str) -> str:
    return tensor.rpartition(".")[0]
