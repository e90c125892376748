"""What tells one network from another."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_digest(model: nn.Module) -> str:
    """Return a short hash of a network: its parameters, its buffers and the classes of its modules."""
    total = hashlib.sha256()
    for path, module in model.named_modules():
        total.update(f"{path}:{type(module).__qualname__};".encode())
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):  # what a module adds by get_extra_state
            continue
        total.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]
