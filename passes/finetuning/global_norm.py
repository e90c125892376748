"""Batch norm over the batch of all processes together, so that their number does not change the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class GlobalBatchNorm(TorchFunctionMode):
    """While it is entered, batch norms in training take mean and variance over all processes' images.

    It catches the function, not the layer, since captured networks call the function; and unlike
    ``torch.nn.SyncBatchNorm`` it also works on a CPU. Sums are taken in two passes (mean, then squared distances),
    in single precision at least.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            call = dict(zip(_FUNCTIONAL, args, strict=False)) | kwargs
        elif func is torch.batch_norm:
            call = dict(zip(_NATIVE, args, strict=False)) | kwargs
        else:
            return func(*args, **kwargs)
        return _batch_norm(**call) if call.get("training") else func(*args, **kwargs)


_FUNCTIONAL = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NATIVE = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled")


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Return normalised ``input`` (N, C, ...); every process has the same N."""
    x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    rest = [dim for dim in range(x.ndim) if dim != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = x.numel() // x.shape[1] * dist.get_world_size()
    mean = _total(x.sum(rest)) / count
    centred = x - mean.view(shape)
    variance = _total(centred.square().sum(rest)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / max(1, count - 1))).to(running_var.dtype), momentum)
    result = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        result = result * weight.view(shape)
    if bias is not None:
        result = result + bias.view(shape)
    return result.to(input.dtype)


class _AllReduce(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(value: Tensor) -> Tensor:
    return cast(Tensor, _AllReduce.apply(value))
