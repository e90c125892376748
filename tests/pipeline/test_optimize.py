from __future__ import annotations

from pathlib import Path

import hant
import pytest
import torch
from hant.backends.targets.load import load_target
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.data_images import ImageTensors
from hant.transformer.contracts.progress import Progress
from hant.transformer.contracts.store import RunStore
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def network() -> nn.Module:
    torch.manual_seed(0)
    stem, head = nn.Conv2d(1, 8, 3, padding=1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(stem, Block(), Block(), head)


def shades(count: int) -> ImageTensors:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, 10, 10, generator=generator) + (labels - 1).view(-1, 1, 1, 1)
    return ImageTensors(images, labels)


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_objects_go_in_and_a_student_comes_out_and_the_same_call_resumes(tmp_path: Path) -> None:
    protocol = Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5)
    target = load_target("cpu-ort").model_copy(update={"protocol": protocol})
    data = Data(train=shades(150), test=shades(60), name="shades")
    progress = Lines()
    results = [
        hant.optimize(
            network(),
            data=data,
            target=target,
            budget=0.95,
            pool=hant.pool("teacher,identity"),
            run=tmp_path / "run",
            progress=progress,
            epochs=0,
        )
        for _ in range(2)
    ]
    first, second = results
    assert set(first.selection) == {"1", "2"}
    assert set(first.selection.values()) <= {"teacher", "identity"}
    assert "identity" in first.selection.values()
    assert 0 < first.latency["ratio"] <= 0.95
    assert first.metrics["teacher"] >= 0
    assert first.report["budget"] == "0.95"
    assert first.model(torch.zeros(2, 1, 10, 10)).shape == (2, 3)
    assert not first.model.training
    assert second.selection == first.selection
    for name, tensor in first.model.state_dict().items():
        assert second.model.state_dict()[name].equal(tensor)
    assert "score: up to date" in progress.lines
    with RunStore(tmp_path / "run") as store:
        assert [put["key"] for _, put in store.events("put") if put["kind"] == "selection"].count("000") == 1


def test_what_is_wrong_is_told_before_anything_is_made(tmp_path: Path) -> None:
    data = Data(train=shades(15), test=shades(6), name="shades")
    with pytest.raises(UsageError, match=r"hant.optimize: unknown option 'epohcs'; did you mean 'epochs'"):
        hant.optimize(network(), data=data, run=tmp_path / "run", epohcs=1)
    with pytest.raises(UsageError, match="unknown target 'cpu-rot'"):
        hant.optimize(network(), data=data, run=tmp_path / "run", target="cpu-rot")
    with pytest.raises(UsageError, match="the model does not take inputs of 1x10x10"):
        hant.optimize(nn.Conv2d(3, 4, 3), data=data, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
