"""What an operation costs on any device: multiply-accumulates and parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..transformer.tools.modes import evaluating
from .tensor_spec import TensorSpec


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    pairs = query.numel() // query.shape[-1] * key.shape[-2]
    return 2 * pairs * (query.shape[-1] + value.shape[-1])


_FLOPS = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""What torch counts, and attention as it runs on a CPU, which torch leaves out."""


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiply-accumulates of convolutions, matrix products and attention.

    ``total`` only grows; callers take differences. Batch norms in
    eval mode, activations, sums and softmax are not counted, as is usual.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = _FLOPS.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out) // 2
        return out


def macs(module: nn.Module, *calls: TensorSpec) -> int:
    """Return the multiply-accumulates of one sample of the network's input that runs ``module`` once on each input.

    Counted on fake tensors: nothing is computed, no memory is taken, and the module is left as it was.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    counter = MacCounter()
    with evaluating(module), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), counter:
        for call in calls:
            module(torch.empty(call.batch, *call.shape, dtype=call.torch_dtype, device=device))
    return counter.total


def parameters(module: nn.Module) -> int:
    """Return the number of trainable values, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
