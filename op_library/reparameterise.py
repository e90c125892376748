"""Branches for training that become one convolution for inference (RepVGG, Ding et al. 2021; DBB, Ding et al. 2021)."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry import Size


class TrainingForm(nn.Module, ABC):
    """A module that trains in one form and runs in another; ``transformer/rewrite/deploy.py`` exchanges them."""

    @abstractmethod
    def fused(self) -> nn.Module:
        """Return the module that does the same in eval mode, with weights of its own."""


class Branches(TrainingForm):
    """Sum of linear branches, each a chain of convolutions and batch norms.

    The first layer of a branch is an odd kxk convolution of padding k // 2 with the stride; the convolutions after it
    are 1x1. A branch without layers is the input itself.
    """

    def __init__(self, in_channels: int, stride: Size, branches: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stride = stride
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H/s), ceil(W/s))."""
        return cast(Tensor, reduce(operator.add, [branch(x) for branch in self.branches]))

    def fused(self) -> nn.Conv2d:
        """Return the one convolution that does the same in eval mode; computed in double precision."""
        like = next(self.parameters())
        start = torch.eye(self.in_channels, dtype=torch.float64, device=like.device)[:, :, None, None]
        terms = [_fuse_chain(start, cast(nn.Sequential, branch)) for branch in self.branches]
        size = max(kernel.shape[-1] for kernel, _ in terms)
        conv = nn.Conv2d(self.in_channels, len(terms[0][1]), size, self.stride, size // 2)
        conv.weight = nn.Parameter(torch.stack([_centre(kernel, size) for kernel, _ in terms]).sum(0))
        conv.bias = nn.Parameter(torch.stack([bias for _, bias in terms]).sum(0))
        return conv.to(dtype=like.dtype).train(self.training)


@torch.no_grad()
def _fuse_chain(kernel: Tensor, chain: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Return kernel (C', C, k, k) and bias (C') of a branch in double precision; ``kernel`` is the identity's."""
    bias = kernel.new_zeros(len(kernel))
    for layer in chain:
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.double()
            # the first convolution meets the identity kernel; later ones are 1x1, so their order does not matter
            bias = weight.sum((2, 3)) @ bias
            if kernel.shape[-1] == 1:
                kernel = torch.einsum("oikl,ic->ockl", weight, kernel[:, :, 0, 0])
            else:
                kernel = torch.einsum("oi,ickl->ockl", weight[:, :, 0, 0], kernel)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            gain = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
            kernel = kernel * gain[:, None, None, None]
            bias = (bias - layer.running_mean.double()) * gain + layer.bias.double()
    return kernel, bias


def _centre(kernel: Tensor, size: int) -> Tensor:
    """Return the kernel padded with zeros to ``size``."""
    margin = (size - kernel.shape[-1]) // 2
    return functional.pad(kernel, (margin, margin, margin, margin))
