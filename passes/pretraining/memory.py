"""How much memory candidates take in training, and how many of them a limit allows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...op_library.op_spec import OpSpec
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ..candidates.build import build_candidate
from ..candidates.candidates import row_name
from .unit import Pair

_PROBE = 2
"""Samples that a candidate is run on to see what it keeps; batch norm needs two."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a candidate takes."""

    held: int
    """For as long as it is in flight: weights, gradients, momenta and buffers."""
    working: int
    """While it takes a step: what the forward pass keeps for the backward pass."""


def footprint(block: Block, spec: OpSpec, batch_size: int) -> Footprint:
    """Return what ``spec`` takes in the place of ``block``, on batches of ``batch_size`` samples of the block's input.

    Measured on a candidate of two samples: autograd is asked for every tensor that it keeps.
    """
    module = build_candidate(block, spec, 0).train()
    x = block.input.random(_PROBE, torch.Generator().manual_seed(0))
    own = {tensor.untyped_storage().data_ptr() for tensor in (x, *module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(x)
    weights = sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    buffers = sum(buffer.nbytes for buffer in module.buffers())
    features = output.nbytes  # the loss keeps as much again, and the backward pass makes a gradient of it
    return Footprint(3 * weights + buffers, (sum(kept.values()) + 2 * features) * batch_size // _PROBE)


class Bound:
    """Cuts groups of candidates so that ``limit`` bytes hold each part while ``workers`` take a step at a time."""

    def __init__(self, graph: Graph, batch_size: int, limit: int, workers: int) -> None:
        self._graph, self._batch_size, self._limit, self._workers = graph, batch_size, limit, workers
        self._known: dict[tuple[str, str], Footprint] = {}

    def __call__(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """Yield the pairs in order, as many at a time as there is room for.

        At least one: what is too large alone is found out in training.
        """
        part: list[Pair] = []
        held = working = 0
        for pair in pairs:
            found = self._footprint(pair)
            more = max(working, found.working)
            if part and held + found.held + self._workers * more > self._limit:
                yield part
                part, held, more = [], 0, found.working
            part.append(pair)
            held, working = held + found.held, more
        if part:
            yield part

    def _footprint(self, pair: Pair) -> Footprint:
        block, spec = self._graph.block(pair[0]), pair[1]
        key = (row_name(block, spec), str(block.contracts[0]))
        if key not in self._known:
            self._known[key] = footprint(block, spec, self._batch_size)
        return self._known[key]
