"""Batch-norm statistics of a network put together from parts that were trained apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...transformer.tools.copied import copied

BATCHES = 8
"""Batches of training images that statistics are estimated on."""


def batch_norm_statistics(network: nn.Module, stream: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the statistics that the batch norms of ``network`` have on images (N, C, H, W), by buffer name.

    Each batch weighs the same (cumulative average). The network itself, whose parts others share, is left as it is;
    run it with the result through ``torch.func.functional_call``.
    """
    twin = copied(network)[0].eval()
    layers = {name: layer for name, layer in twin.named_modules() if isinstance(layer, _BatchNorm)}
    layers = {name: layer for name, layer in layers.items() if layer.running_mean is not None}
    if not layers:
        return {}
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for images in stream:
            twin(images)
    buffers = dict(twin.named_buffers(remove_duplicate=False))
    names = ("running_mean", "running_var")
    return {f"{layer}.{name}": buffers[f"{layer}.{name}"] for layer in layers for name in names}
