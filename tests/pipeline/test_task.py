"""A segmentation by ``hant.optimize``: from a network with a dictionary of outputs to a verified one and its report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import hant
import pytest
import torch
from hant.backends.targets.load import load_target
from hant.passes.delivering.records import VerificationRecord
from hant.passes.ranking.records import FinalistRecord, RankRecord
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import AccuracyError
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn

IOU = hant.Metric(name="IoU of a|b")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class Segmenter(nn.Module):
    """Says of each pixel whether it is bright, and of the image how bright."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = self.blocks(self.stem(x))
        pixels = self.head(features)
        return {"pixels": pixels, "more": [pixels.mean((1, 2, 3)), features]}


class Bright(torch.utils.data.Dataset[Any]):
    """Noise, and which of its pixels are above 0."""

    def __init__(self, count: int, seed: int) -> None:
        self._images = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = self._images[index]
        return image, {"bright": (image > 0).float()}


class Segmentation(hant.Task):
    name = "segmentation"
    metric: ClassVar[hant.Metric] = IOU

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        wanted = torch.stack([target["bright"] for target in targets])
        return nn.functional.binary_cross_entropy_with_logits(outputs["pixels"], wanted)

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        wanted = torch.stack([target["bright"] for target in targets]) > 0
        found = outputs["pixels"] > 0
        return float((found & wanted).sum() / (found | wanted).sum())


def teacher() -> nn.Module:
    torch.manual_seed(0)
    network, task, data = Segmenter(), Segmentation(), Bright(64, 1)
    images, targets = zip(*(data[i] for i in range(len(data))), strict=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        task.loss(network(torch.stack(images)), torch.stack(images), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


def optimise(network: nn.Module, run: Path, passes: dict[str, Any], **options: Any) -> hant.Result:
    protocol = Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5)
    return hant.optimize(
        network,
        data=Data(Bright(80, 2), Bright(21, 3), "bright", task=Segmentation()),
        target=load_target("cpu-ort").model_copy(update={"protocol": protocol}),
        budget=1.0,
        pool="teacher,identity",
        run=run,
        epochs=1,
        device="cpu",
        solutions=4,
        passes={"align": {"epochs": 1}, "finetune": {"batch_size": 16, "learning_rate": 0.01}, **passes},
        **options,
    )


def expected(network: nn.Module) -> float:
    """Return the metric as plain PyTorch has it on the test data, which fit into one batch."""
    data = Bright(21, 3)
    images, targets = zip(*(data[i] for i in range(len(data))), strict=True)
    with torch.no_grad():
        return Segmentation().measure(network.eval()(torch.stack(images)), torch.stack(images), list(targets))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, hant.Result]:
    """The teacher and what was made of it."""
    network = teacher()
    finalists = {"finalists": 2, "finalist_steps": 20}
    return network, optimise(network, tmp_path_factory.mktemp("task") / "run", passes={"rank": finalists})


def test_teacher_and_student_are_told_in_the_tasks_metric(finished: tuple[nn.Module, hant.Result]) -> None:
    network, result = finished
    assert result.metrics.metric == IOU
    assert result.metrics.teacher == pytest.approx(expected(network), abs=1e-6)
    assert result.metrics.student == pytest.approx(expected(result.model), abs=1e-6)
    assert result.metrics.drop == result.metrics.teacher - result.metrics.student


def test_the_student_returns_what_the_teacher_does(finished: tuple[nn.Module, hant.Result]) -> None:
    outputs = finished[1].model(torch.zeros(2, 1, 12, 12))
    assert list(outputs) == ["pixels", "more"]
    assert [tuple(tensor.shape) for tensor in outputs["more"]] == [(2,), (2, 8, 12, 12)]


def test_outputs_are_compared_and_networks_ranked_without_classes(finished: tuple[nn.Module, hant.Result]) -> None:
    with RunStore(finished[1].run) as store:
        record = store.get(VerificationRecord, "verification")
        assert record is not None
        assert record.top1_agreement is None
        assert record.parity_samples > 0
        assert 0 <= record.max_abs_difference <= 1e-4
        ranks = store.all(RankRecord).values()
        assert all(rank.kl is None and 0 <= rank.accuracy <= 1 for rank in ranks)
        assert sum(rank.finetuned_accuracy is not None for rank in ranks) == len(store.all(FinalistRecord))
        # How many selections there are follows from measured times.
        assert len(store.all(FinalistRecord)) == min(2, len(ranks)) > 0


def test_the_report_speaks_of_the_metric(finished: tuple[nn.Module, hant.Result]) -> None:
    result = finished[1]
    told = f"{result.metrics.teacher:.4g}"
    comment = (result.run / "report.md").read_text()
    assert f"| `IoU of a\\|b`, 21 test images | `{told}` |" in comment
    page = re.sub(r"\s+", " ", (result.run / "report.html").read_text())
    for words in (
        f"<tr><td>accuracy, {IOU.name}</td>",
        f"IoU of a|b, the teacher {told}",
        "Loss change: of the task's",
    ):
        assert words in page
    assert "top-1" not in page + comment


def test_a_larger_drop_than_allowed_is_told_in_the_metrics_unit(finished: tuple[nn.Module, hant.Result]) -> None:
    network, result = finished
    with RunStore(result.run) as store:
        record = store.get(VerificationRecord, "verification")
        assert record is not None
        store.put("verification", record.model_copy(update={"teacher_accuracy": 0.75, "student_accuracy": 0.5}))
    with pytest.raises(
        AccuracyError, match=r"is worse by 0.25 in IoU of a\|b \(0.75 to 0.5 on 21 test images\), more th"
    ):
        optimise(network, result.run, max_drop=0.1, passes={"rank": {"finalists": 2, "finalist_steps": 20}})
    report = json.loads((result.run / "report.json").read_text())
    assert (report["accuracy"]["drop"], report["accuracy"]["within_limit"]) == (0.25, False)
