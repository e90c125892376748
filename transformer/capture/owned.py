"""The tensors that a model holds."""

from __future__ import annotations

from torch import Tensor, nn


def owned_tensors(model: nn.Module) -> dict[int, str]:
    """Return the path of every tensor that a module holds, by identity."""
    owned: dict[int, str] = {}
    for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in source:
            owned.setdefault(id(tensor), name)
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                owned.setdefault(id(value), f"{path}.{name}" if path else name)
    return owned
