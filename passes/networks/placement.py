"""Networks on the training device for as long as they are needed there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from ...transformer.tools.allocator import keep_memory


@contextmanager
def placed(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """Move the networks to ``device`` and, at the end, back to where they were.

    Parameters are moved in place, so everything that shares them moves along. On a CPU the memory of what is computed
    there is kept for the next tensors.
    """
    if device.type == "cpu":
        keep_memory()
    homes = [_home(network, device) for network in networks]
    try:
        for network in networks:
            network.to(device)
        yield
    finally:
        for network, home in zip(networks, homes, strict=True):
            network.to(home)


def _home(network: nn.Module, default: torch.device) -> torch.device:
    found = next(chain(network.parameters(), network.buffers()), None)
    return default if found is None else found.device
