from __future__ import annotations

import psutil
import pytest
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.engine import train
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.trainer import Trainer
from hant.transformer.data.sources import load_data
from hant.transformer.ir.graph import Graph

STEPS = 10_000
SLACK = 4 * 2**20
"""Bytes; one feature map (16 KiB) kept a step would take 30 times as much."""


@pytest.mark.slow
def test_memory_does_not_grow_over_ten_thousand_steps(small_graph: Graph) -> None:
    data, cpu, process = load_data("digits", (1, 8, 8)).train, torch.device("cpu"), psutil.Process()
    recipe = resolve(len(data), 0, epochs=STEPS / (len(data) // 16), batch_size=16)  # type: ignore[arg-type]
    block = small_graph.block("three")
    trainers = [
        Trainer(block.name, spec.name, build_candidate(block, spec, 0), recipe)
        for spec in pool("cb_res_1x1,cb_res_3x3")
    ]
    seen: list[int] = []
    train(
        small_graph, trainers, recipe, data, {b.name: 1.0 for b in small_graph.blocks}, cpu,
        lambda: seen.append(process.memory_info().rss), workers=1,
    )  # fmt: skip
    assert len(seen) == STEPS
    assert max(seen[-1000:]) <= max(seen[:2000]) + SLACK
