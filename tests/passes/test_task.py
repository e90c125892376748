"""A regression: the network's ten outputs are to be the angle and other numbers, not classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.passes.evaluate import evaluate
from hant.passes.finetune import FinetunePass
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.score import ScorePass
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data, split
from hant.transformer.contracts.data_images import batches
from hant.transformer.contracts.records import CandidateRecord, EpochRecord, ScoreRecord, WinnerRecord
from hant.transformer.contracts.store import RunStore
from hant.transformer.contracts.task import Task, to_device
from hant.transformer.errors import UsageError
from torch import Tensor, nn

MakeContext = Callable[..., Context]


class Regression(Task):
    """Squared distance of the first output from a number."""

    name = "regression"

    def __init__(self) -> None:
        self.steps: list[bool] = []

    def loss(self, outputs: Tensor, images: Tensor, targets: Any) -> Tensor:
        wanted = torch.stack([target["value"] for target in targets])
        return (outputs[:, 0] - wanted).square().mean()

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        self.steps.append(student.training and not teacher.training)
        return super().train_loss(student, teacher, images, targets)


class Numbers(torch.utils.data.Dataset[Any]):
    """Images and the mean of their pixels."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index))
        return image, {"value": image.mean()}


@pytest.fixture
def context(tmp_path: Path, make_context: MakeContext) -> Context:
    """A run that chooses between the teacher's blocks and nothing."""
    store = RunStore(tmp_path)
    data = Data(Numbers(), Numbers(), "numbers", task=Regression())
    context = replace(make_context(store, "teacher,identity"), data=data)
    choice = {"one": "identity", "two": "teacher", "three": "identity"}
    for block, operation in (*choice.items(), ("one", "teacher"), ("three", "teacher")):
        store.put(f"{block}/{operation}", CandidateRecord(block=block, operation=operation, state="ready"))
    winner = WinnerRecord(index=0, choice=choice, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2)
    store.put("winner", winner)
    return context


def test_candidates_are_scored_by_the_tasks_loss(context: Context) -> None:
    ScorePass(batch_size=4).run(context)
    held_out, task = split(context.dataset, 0).held_out, context.dataset.task
    teacher = evaluate(context.teacher.network, held_out, 4, task=task)
    without = evaluate(context.teacher.replace({"one": nn.Identity()}).network, held_out, 4, task=task)
    scores = context.store.all(ScoreRecord)
    assert scores["one/identity"].delta == pytest.approx(without.loss - teacher.loss)
    assert (scores["one/teacher"].delta, scores["one/identity"].accuracy) == (0, 0)


def test_the_student_is_trained_by_the_tasks_train_step(context: Context) -> None:
    FinetunePass(epochs=6, batch_size=10, learning_rate=0.02).run(context)
    losses = [epoch.train_loss for epoch in context.store.all(EpochRecord).values()]
    assert losses[-1] < losses[0] / 2
    task = context.dataset.task
    assert isinstance(task, Regression)
    assert len(task.steps) == 6 * 5
    assert all(task.steps)


def test_ranking_says_that_it_needs_a_classifier(context: Context) -> None:
    with pytest.raises(UsageError, match="ranking needs a classifier's outputs, the data have the task 'regression'"):
        Judge(context, Protocol())


def test_labels_of_any_kind_come_as_a_list_on_the_device() -> None:
    images, targets = next(batches(Numbers(), 3, device="cpu"))
    assert (images.shape, len(targets), targets[0].keys()) == ((3, 1, 8, 8), 3, {"value"})
    moved = to_device({"a": [torch.zeros(1)], "b": (1, "x")}, "meta")
    assert moved["a"][0].device.type == "meta"
    assert moved["b"] == (1, "x")
