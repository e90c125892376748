"""What an operation costs on any device: multiply-accumulates and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from .tensor_spec import TensorSpec


def macs(module: nn.Module, input: TensorSpec) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one sample of the network's input.

    Counted on fake tensors: nothing is computed, no memory is taken, and the module is left as it was. Batch norms
    in eval mode, activations, sums and softmax are not counted, as is usual.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with _eval_mode(module), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        x = torch.empty(input.batch, *input.shape, dtype=input.torch_dtype, device=device)
        with FlopCounterMode(display=False) as counter:
            module(x)
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """Return the number of trainable values, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
