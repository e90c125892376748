"""Wrappers around a network that change how it is run, not what it computes."""

from __future__ import annotations

from torch import nn

_INSIDE = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
"""Class, by name to spare imports that take seconds -> the attribute that holds the network."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside of ``nn.DataParallel``, ``torch.compile``, ``AveragedModel`` and nests of them."""
    while (inside := _INSIDE.get(f"{type(model).__module__}.{type(model).__qualname__}")) is not None:
        model = getattr(model, inside)
    return model
