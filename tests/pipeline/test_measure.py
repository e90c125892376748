"""``hant.measure`` on real runtimes, without asking how long anything takes."""

from __future__ import annotations

from pathlib import Path

import hant
import pytest
import torch
from hant.backends.targets.load import load_target
from hant.transformer.contracts.backend import batch_of
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from torch import nn

QUICK = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)


@pytest.mark.parametrize("name", ["cpu-ort", "cpu-torch"])
def test_a_module_is_timed_on_inputs_of_the_targets_batch(name: str) -> None:
    target = load_target(name).model_copy(update={"protocol": QUICK, "batch_size": 3})
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).train()
    timing = hant.measure(module, target, torch.zeros(1, 3, 8, 8))
    assert len(timing.samples) == 3
    assert 0 < timing.low <= timing.ms <= timing.high
    assert not timing.estimated
    assert module.training


def test_a_graph_needs_no_inputs() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    graph = hant.trace(module.eval(), (torch.zeros(1, 3, 8, 8),))
    timing = hant.measure(graph, load_target("cpu-ort").model_copy(update={"protocol": QUICK}))
    assert len(timing.samples) == 3
    assert 0 < timing.low <= timing.ms <= timing.high


def test_a_module_without_inputs_is_refused() -> None:
    with pytest.raises(UsageError, match=r"measure needs example_inputs to run a module with; give a tensor"):
        hant.measure(nn.ReLU())


def test_a_target_that_cannot_run_here_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbackend = "onnxruntime"\nprecision = "int3"\n')
    with pytest.raises(UsageError, match="target mine cannot be run here: the onnxruntime backend runs fp32 only"):
        hant.measure(nn.ReLU(), path, torch.zeros(1, 3))


@pytest.mark.parametrize(("given", "wanted"), [(1, 4), (3, 4), (4, 4), (6, 4)])
def test_batches_are_repeated_or_cut(given: int, wanted: int) -> None:
    tensor = torch.arange(given).reshape(given, 1)
    assert batch_of(tensor, wanted).flatten().tolist() == [index % given for index in range(wanted)]
