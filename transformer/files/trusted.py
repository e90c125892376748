"""Reading files that run code, for callers that trust them. The only place that does; nothing falls back to it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import LoadError
from ..tools.wrappers import unwrapped


def load_trusted(path: Path) -> nn.Module | None:
    """Return the module of a pickled module, a TorchScript program or a torch.export archive; None for mere weights.

    Raises:
        LoadError: the file cannot be read.
    """
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist")
    if path.suffix == ".safetensors":
        return None
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # anything may go wrong in foreign code
        reason = str(error).strip().splitlines()
        raise LoadError(f"{path} cannot be read: {(reason or [type(error).__name__])[0][:200]}") from error
    if isinstance(content, dict) and isinstance(content.get("model"), nn.Module):
        content = content["model"]
    return unwrapped(content) if isinstance(content, nn.Module) else None
