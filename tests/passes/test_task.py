"""A regression: the network's ten outputs are to be the angle and other numbers, not classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import EpochRecord, StudentRecord
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.ranking.measures import measure_of
from hant.passes.ranking.race import finishing_order
from hant.passes.ranking.records import WinnerRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.task import Task, to_device
from hant.transformer.data.images import batches
from hant.transformer.data.splits import split
from hant.transformer.errors import UsageError
from hant.transformer.runs.store import RunStore
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


class Below(Regression):
    """A loss that is negative."""

    name = "below"
    least_loss = -math.inf

    def loss(self, outputs: Tensor, images: Tensor, targets: Any) -> Tensor:
        return super().loss(outputs, images, targets) - 1000


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
    assert (scores["one/teacher"].delta, scores["one/identity"].accuracy) == (0, without.loss)


def test_the_student_is_trained_by_the_tasks_train_step(context: Context) -> None:
    FinetunePass(epochs=6, batch_size=10, learning_rate=0.02).run(context)
    losses = [epoch.train_loss or 0 for epoch in context.store.all(EpochRecord).values() if epoch.epoch]
    assert losses[-1] < losses[0] / 2
    task = context.dataset.task
    assert isinstance(task, Regression)
    assert len(task.steps) == 6 * 5
    assert all(task.steps)


def test_the_best_state_is_that_of_the_least_loss(context: Context) -> None:
    FinetunePass(epochs=3, batch_size=10, learning_rate=0.02).run(context)
    student = context.store.get(StudentRecord, "student")
    assert student is not None
    held_out, task = split(context.dataset, 0).held_out, context.dataset.task
    choice = {name: nn.Identity() for name, operation in student.choice.items() if operation == "identity"}
    before = evaluate(context.teacher.replace(choice).network, held_out, task=task)
    epochs = [epoch.held_out_accuracy for epoch in context.store.all(EpochRecord).values()]
    assert student.held_out_accuracy == min(before.loss, *epochs)


def test_whole_networks_are_ranked_by_the_tasks_loss(context: Context) -> None:
    judge = Judge(context, Protocol(batch_size=4))
    choices = [dict.fromkeys(("one", "three"), operation) for operation in ("identity", "teacher")]
    entries = [
        judge.entry(index, choice, measure_of("cross-entropy", judge.task)) for index, choice in enumerate(choices)
    ]
    first, second = finishing_order(entries)
    assert first.totals.mean("loss") <= second.totals.mean("loss")
    held_out, task = split(context.dataset, 0).held_out, context.dataset.task
    without = context.teacher.replace({"one": nn.Identity(), "three": nn.Identity()}).network
    for entry, network in zip(entries, (without, context.teacher.network), strict=True):
        found = evaluate(network, held_out, 4, task=task)
        assert entry.totals.mean("loss") == pytest.approx(found.loss)
        assert entry.totals.accuracy == pytest.approx(found.accuracy)
        assert set(entry.totals.sums) == {"loss", "metric", "feature_mse"}


def test_a_race_by_means_of_batches_is_certain_and_knows_the_least_loss(context: Context) -> None:
    entry = Judge(context, Protocol(batch_size=4)).entry(0, {}, "loss", doubt=5.0)
    entry.advance()
    assert 0 < entry.bound == entry.totals.sums["loss"]
    below = replace(context, data=replace(context.dataset, task=Below()))
    entry = Judge(below, Protocol(batch_size=4)).entry(0, {}, "loss", doubt=5.0)
    entry.advance()
    assert entry.bound == -math.inf
    entry.finish()
    assert entry.bound == entry.totals.sums["loss"] < 0


def test_a_loss_below_the_least_is_told(context: Context) -> None:
    wrong = type("Wrong", (Below,), {"least_loss": -1.0})()
    judge = Judge(replace(context, data=replace(context.dataset, task=wrong)), Protocol())
    with pytest.raises(
        UsageError, match=r"the loss of task 'below' is -\d+\.?\d* on a batch, below its least_loss of -1, by"
    ):
        judge.totals({})


def test_other_networks_are_those_of_another_task(context: Context) -> None:
    other = replace(context, data=replace(context.dataset, task=Below()))
    assert Judge(context, Protocol()).key({"one": "teacher"}) != Judge(other, Protocol()).key({"one": "teacher"})


@pytest.mark.parametrize("metric", ["accuracy", "kl"])
def test_what_needs_classes_is_told(metric: str) -> None:
    with pytest.raises(
        UsageError, match=f"ranking by '{metric}' needs a classifier, the data have the task 'regression'"
    ):
        measure_of(metric, Regression())


def test_labels_of_any_kind_come_as_a_list_on_the_device() -> None:
    images, targets = next(batches(Numbers(), 3, device="cpu"))
    assert (images.shape, len(targets), targets[0].keys()) == ((3, 1, 8, 8), 3, {"value"})
    moved = to_device({"a": [torch.zeros(1)], "b": (1, "x")}, "meta")
    assert moved["a"][0].device.type == "meta"
    assert moved["b"] == (1, "x")
