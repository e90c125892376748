"""An operation built for a block."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from ...op_library.activations import activation, clamps, final
from ...op_library.op_spec import OpSpec
from ...transformer.ir.block import Block
from ...transformer.tools.seeds import derived_seed


def build_candidate(block: Block, spec: OpSpec, seed: int) -> nn.Module:
    """Return the module of ``spec`` for ``block``: freshly initialised, by a seed that the names decide.

    A derived operation is made of the block's own module; ``teacher`` is that module, shared. ``identity`` passes its
    input on. Where the block ends in a ReLU, so does every other candidate: its output is compared with one that is
    never negative.

    Raises:
        UnfitError: the operation does not fit.
    """
    if spec.derived:
        return spec.derive(block.module, block.contracts)
    if spec.name == "identity":
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, block.name, spec.name))
        module = spec.build(block.input, block.output)
    clamp = _clamp(block)
    return module if clamp is None else nn.Sequential(module, activation(clamp))


@lru_cache(maxsize=64)
def _clamp(block: Block) -> str | None:
    """Return the clamping activation that ends a block, if one does; seen once for all its candidates."""
    name = final(block.module)
    return name if clamps(name) else None
