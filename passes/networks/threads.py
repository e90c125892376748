"""How many threads a training step is computed with: no more than its operations are worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...transformer.ir.graph import Graph

_WORTH = 16_000_000
"""Multiply-accumulates of a layer for each thread: about a millisecond."""


def worth(graph: Graph, images: int) -> int:
    """Return the number of threads that a usual layer of the network is worth on so many images at a time."""
    layers = sum(any(p.ndim > 1 for p in layer.parameters(recurse=False)) for layer in graph.network.modules())
    return max(1, graph.macs * images // max(1, layers) // _WORTH)


@contextmanager
def threads_worth(graph: Graph, images: int) -> Iterator[None]:
    """Compute with at most as many threads as a layer is worth.

    Threads wait for each other at the end of each operation. Beside busy processes that takes as long as the system
    lets these run, some milliseconds: nothing for a layer of a large network and all of the time for a small one. The
    number goes by network and batch, not by how busy the machine is: results are the same to the bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, worth(graph, images)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
