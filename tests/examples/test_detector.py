"""The example of a detector in its smallest form."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.backends.targets.load import load_target
from hant.transformer.contracts.timing import Protocol

pytest.importorskip("torchvision")
SCRIPT = Path(__file__).parents[2] / "examples" / "detector" / "optimise.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("detector_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settle(detector: Any, script: Any) -> None:
    """Give batch norms the statistics of the data, as after a long training: without it outputs exceed 1e14."""
    norms = [module for module in detector.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    squares = script.Squares(32, 300_000)
    with torch.no_grad():
        for start in range(0, 32, 8):
            pictures, targets = zip(*(squares[index] for index in range(start, start + 8)), strict=True)
            detector.train()(list(pictures), list(targets))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    detector.eval()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_detector_runs_with_the_verified_backbone_in_place(tmp_path: Path) -> None:
    script = example()
    detector = script.train_detector(steps=20)
    settle(detector, script)
    before = detector.backbone
    limits = {"budget": "10000ms", "limits": ["params=99.9%"]}  # whatever the machine, and something is replaced
    few = ["features.0.8", "features.0.9", "extra.2"]
    # No fine-tuning: two steps of it ruin a detector that has seen twenty.
    quick = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
    target = load_target("cpu-ort").model_copy(update={"protocol": quick})
    result = script.optimise(detector, 40, run=tmp_path / "run", target=target, include=few, epochs=0, **limits)
    assert "identity" in result.selection.values()
    assert detector.backbone is result.model is not before
    assert result.metrics.metric.name == "overlap"
    assert result.report.parity.max_abs_difference <= 1e-4
    squares = script.Squares(10, 500_000)
    pictures, targets = zip(*(squares[index] for index in range(10)), strict=True)
    with torch.no_grad():
        found = detector.eval()(list(pictures))
    assert script.overlap(found, targets) == pytest.approx(result.metrics.student, abs=1e-3)
