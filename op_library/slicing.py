"""Narrower copies of a block: its strongest inner channels, and the centres of its kernels.

A block whose inner channels stand in order, the strongest first, holds every slice as parts of its own tensors: a
prefix of some axes, the centre of others. So slices of many widths can share one set of weights in training, and the
one that is taken out in the end is a copy, equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..transformer.errors import UnfitError
from ..transformer.tools.copied import copied
from ..transformer.tools.modes import evaluating, preserved
from .channels import Channels, inner_channels
from .tensor_spec import TensorSpec

Table = Mapping[str, tuple[slice, ...]]
"""Name of a parameter or buffer -> which part of it a slice has, one ``slice`` an axis; the others it has whole."""

_STEP, _SMALL_STEP, _SMALL = 8, 4, 32
"""Widths are multiples of the step, which kernels of all devices are made for; of the small one below 32 channels."""
_SAME = 1e-4
"""How much outputs may differ, relative to the largest value, where only the order of sums is another."""
_known: WeakKeyDictionary[nn.Module, tuple[TensorSpec, tuple[Channels, ...]]] = WeakKeyDictionary()


def sliceable_channels(module: nn.Module, input: TensorSpec) -> tuple[Channels, ...]:
    """Return the channels inside ``module``, those that cannot be fewer with their reason.

    Found once for a module, and tried out: with its free channels in another order it must compute the same.
    """
    known = _known.get(module)
    if known is None or known[0] != input:
        known = _known[module] = input, _checked(module, input, inner_channels(module, input))
    return known[1]


def width_of(channels: Channels, share: float) -> int:
    """Return how many of the channels a slice of this share keeps."""
    step = _STEP if channels.size >= _SMALL else _SMALL_STEP
    return min(channels.size, max(step, int(share * channels.size / step + 0.5) * step))


def in_order(module: nn.Module, channels: Sequence[Channels]) -> nn.Module:
    """Return a copy of ``module`` whose free channels stand in order of their strength, the strongest first.

    A channel's strength is the L1 norm of the weights that read it. Outputs differ by the order of sums only.
    """
    tensors = _tensors(module)
    orders = {}
    for group in channels:
        if not group.fixed:
            strength = torch.stack([_strength(tensors[name].detach(), axis) for name, axis in group.consumers]).sum(0)
            orders[group] = strength.argsort(descending=True, stable=True)
    return _reordered(module, orders)


def table(module: nn.Module, channels: Sequence[Channels], width: float, kernel: int) -> dict[str, tuple[slice, ...]]:
    """Return which parts of the tensors of ``module``, whose channels are in order, a slice has.

    Args:
        module: the block.
        channels: those inside it.
        width: share of its free channels, 1 for all of them.
        kernel: largest kernel, of which larger ones keep the centre; 0 for all as they are.
    """
    found = {name: [slice(0, size) for size in tensor.shape] for name, tensor in _tensors(module).items()}
    changed = set()
    for group in channels:
        for name, axis in group.axes if not group.fixed else ():
            found[name][axis] = slice(0, width_of(group, width))
            changed.add(name)
    for name, layer in _larger_kernels(module, kernel):
        for axis, size in enumerate(layer.kernel_size, start=2):
            start = max(0, (size - kernel) // 2)
            found[name][axis] = slice(start, size - start)
        changed.add(name)
    return {name: tuple(parts) for name, parts in found.items() if name in changed}


def sliced(module: nn.Module, parts: Table) -> dict[str, Tensor]:
    """Return a slice's parameters and buffers by name, as parts of those of ``module``: gradients flow back into them.

    Run a slice's module with them by ``torch.func.functional_call``. They lie in memory as a copy's do: on strided
    views the gradients of linear layers differ from those of copies in the last bit.
    """
    tensors = _tensors(module).items()
    return {name: tensor[parts[name]].contiguous() if name in parts else tensor for name, tensor in tensors}


def narrowed(module: nn.Module, parts: Table) -> nn.Module:
    """Return the slice as a module of its own: a copy of ``module`` with ``sliced`` tensors in narrower layers."""
    narrow = _with_tensors(module, {name: part for name, part in sliced(module, parts).items() if name in parts})
    for layer in narrow.modules():
        _follow(layer)
    return narrow


def has_larger_kernel(module: nn.Module, kernel: int) -> bool:
    """Return whether a slice with kernels of at most ``kernel`` differs from one with kernels as they are."""
    return bool(kernel) and bool(_larger_kernels(module, kernel))


def try_out(module: nn.Module, input: TensorSpec, output: TensorSpec) -> None:
    """Run a slice on fake tensors.

    Raises:
        UnfitError: it does not map ``input`` to ``output``, as code that has sizes of its own does not.
    """
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    try:
        with evaluating(module), preserved(module), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            found = module(torch.empty(2 * input.batch, *input.shape, dtype=input.torch_dtype, device=device))
    except Exception as error:  # the block's own code may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnfitError(f"the block's code has sizes of its own and does not run narrower: {reason}") from error
    if tuple(found.shape[1:]) != output.shape:
        shape = "x".join(map(str, found.shape[1:]))
        raise UnfitError(
            f"the block's code makes {shape} of {input} where its kernels are cropped, in place of {output}"
        )


def _checked(module: nn.Module, input: TensorSpec, channels: tuple[Channels, ...]) -> tuple[Channels, ...]:
    """Return the channels; none of them free if their order matters to the block, whatever its code seemed to do."""
    generator = torch.Generator().manual_seed(0)
    free = [group for group in channels if not group.fixed]
    if not free:
        return channels
    other = _reordered(module, {group: torch.randperm(group.size, generator=generator) for group in free})
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    x = input.random(1, generator).to(device)
    with evaluating(module), preserved(module), torch.no_grad():
        first, second = module(x), other.eval()(x)
    if (first - second).abs().max() <= _SAME * first.abs().max():
        return channels
    reasons = {
        group: group.fixed or f"the order of the channels of {group.layer} matters to the block" for group in channels
    }
    return tuple(replace(group, fixed=reasons[group]) for group in channels)


def _reordered(module: nn.Module, orders: Mapping[Channels, Tensor]) -> nn.Module:
    tensors = _tensors(module)
    changed: dict[str, Tensor] = {}
    for group, order in orders.items():
        for name, axis in group.axes:
            tensor = changed.get(name, tensors[name])
            changed[name] = tensor.detach().index_select(axis, order.to(tensor.device))
    return _with_tensors(module, changed)


def _strength(weight: Tensor, axis: int) -> Tensor:
    """Return the L1 norm of each slice along ``axis``, shape (C,)."""
    return weight.double().abs().transpose(0, axis).flatten(1).sum(1)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, shared ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _with_tensors(module: nn.Module, changed: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of ``module`` with copies of other tensors under the given names; what is shared stays shared."""
    copy = copied(module)[0]
    own = _tensors(copy)
    new: dict[int, Tensor] = {}
    for name, tensor in changed.items():
        value = tensor.detach().clone(memory_format=torch.contiguous_format)
        parameter = isinstance(own[name], nn.Parameter)
        new[id(own[name])] = nn.Parameter(value, own[name].requires_grad) if parameter else value
    for layer in copy.modules():
        for store in cast(tuple[dict[str, Any], ...], (layer._parameters, layer._buffers)):
            for name, kept in store.items():
                if kept is not None and id(kept) in new:
                    store[name] = new[id(kept)]
    return copy


def _larger_kernels(module: nn.Module, kernel: int) -> list[tuple[str, _ConvNd]]:
    """Return the convolutions with an odd kernel above ``kernel``, with the names of their weights."""
    names = {id(tensor): name for name, tensor in _tensors(module).items()}
    convolutions = [layer for layer in module.modules() if isinstance(layer, _ConvNd)]
    return [
        (names[id(layer.weight)], layer)
        for layer in convolutions
        if not isinstance(layer, _ConvTransposeNd)
        and id(layer.weight) in names
        and layer.padding_mode == "zeros"
        and 0 < kernel < max(layer.kernel_size)
        and all(size % 2 for size in layer.kernel_size)
    ]


def _follow(layer: nn.Module) -> None:
    """Let the numbers that a layer keeps of itself follow its tensors."""
    if isinstance(layer, _ConvNd) and isinstance(layer.weight, Tensor):
        _follow_convolution(layer)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        kept = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = len(kept) if kept is not None else layer.num_features
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm) and layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)


def _follow_convolution(layer: _ConvNd) -> None:
    if isinstance(layer, _ConvTransposeNd):
        return  # the channels of transposed convolutions are fixed
    made, taken, *kernel = layer.weight.shape
    if layer.groups == layer.in_channels == layer.out_channels:
        layer.groups = made
    layer.in_channels, layer.out_channels = taken * layer.groups, made
    if not isinstance(layer.padding, str):
        sizes = zip(layer.padding, layer.dilation, layer.kernel_size, kernel, strict=True)
        layer.padding = tuple(
            pad - spread * (before - now) // 2 if pad == spread * (before - 1) // 2 else pad
            for pad, spread, before, now in sizes
        )
    layer.kernel_size = tuple(kernel)
