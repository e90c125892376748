from __future__ import annotations

import pytest
import torch
from hant.op_library.pools import operation
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.memory import Bound, footprint
from hant.passes.pretraining.unit import Pair
from hant.transformer.ir.graph import Graph

NAMES = ("cb_res_1x1", "cb_res_3x3", "cb_stack_3x3_ex0.5", "efn_3x3_e3_se0.25", "vit_d1_w32_h4")
PAIRS: list[Pair] = [(block, operation(name)) for block in ("one", "three") for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_footprint_is_that_of_a_step(small_graph: Graph, name: str) -> None:
    """Weights, gradients and momenta are counted exactly; what a step keeps is at least the layers' outputs."""
    block, spec = small_graph.block("one"), operation(name)
    module, found = build_candidate(block, spec, 0), footprint(block, spec, 16)
    weights = sum(parameter.nbytes for parameter in module.parameters())
    assert found.held == 3 * weights + sum(buffer.nbytes for buffer in module.buffers())
    kept: list[int] = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear):
            layer.register_forward_hook(lambda _, args, y: kept.append(y.nbytes))
    module(torch.zeros(16, *block.input.shape))
    assert 0.5 * sum(kept) <= found.working <= 4 * sum(kept) + 2**20
    assert footprint(block, spec, 32).working == 2 * found.working


@pytest.mark.parametrize("workers", [1, 2])
def test_every_part_is_within_the_limit_or_alone(small_graph: Graph, workers: int) -> None:
    prints = {(block, spec.name): footprint(small_graph.block(block), spec, 16) for block, spec in PAIRS}
    alone = [p.held + workers * p.working for p in prints.values()]
    sizes = []
    for limit in (1, max(alone), 3 * max(alone), 10**12):
        parts = list(Bound(small_graph, 16, limit, workers)(PAIRS))
        assert [pair for part in parts for pair in part] == PAIRS
        for part in parts:
            found = [prints[block, spec.name] for block, spec in part]
            total = sum(p.held for p in found) + workers * max(p.working for p in found)
            assert total <= limit or len(part) == 1
        sizes.append(len(parts))
    assert sizes[0] == len(PAIRS)
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
