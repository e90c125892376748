"""Metrics and tasks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hant.transformer.contracts.task import LOSS, TOP1, Classification, Metric, Task
from hant.transformer.errors import UsageError
from torch import Tensor, nn

DEPTH = Metric(name="RMSE", unit="cm", higher_is_better=False)
IOU = Metric(name="mean IoU")


@pytest.mark.parametrize(
    ("metric", "value", "difference", "limit", "label"),
    [
        (TOP1, "12.35 %", "+12.35 points", "12.35 points lost", "top-1, held out, %"),
        (DEPTH, "12.35 cm", "+12.35 cm", "12.35 cm lost", "RMSE, held out, cm"),
        (IOU, "12.35", "+12.35", "12.35 lost", "mean IoU, held out"),
    ],
)
def test_words(metric: Metric, value: str, difference: str, limit: str, label: str) -> None:
    assert metric.text(12.35) == value
    assert metric.difference(12.35, "+") == difference
    assert metric.limit(12.35) == limit
    assert metric.label(", held out") == label


def test_a_drop_is_how_much_worse_the_student_is() -> None:
    assert (IOU.drop(0.75, 0.5), IOU.gain(0.75)) == (0.25, 0.75)
    assert (DEPTH.drop(2.0, 2.5), DEPTH.gain(2.0)) == (0.5, -2.0)


@pytest.mark.parametrize("metric", [IOU, DEPTH])
def test_what_is_no_number_is_worse_than_anything_real(metric: Metric) -> None:
    assert metric.gain(metric.finite(math.nan)) < metric.gain(metric.finite(1e9)) < 1e30
    assert math.isfinite(metric.finite(math.inf))


class Depth(Task):
    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        return nn.functional.mse_loss(outputs, torch.stack(targets))


class Error(Depth):
    metric = DEPTH

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        return self.loss(outputs, images, targets).sqrt().item()


def test_totals_are_means_times_images_and_the_loss_stands_for_a_metric_that_is_not_given() -> None:
    outputs, images, targets = torch.full((4, 1), 3.0), torch.zeros(4, 1, 2, 2), [torch.zeros(1)] * 4
    assert Depth().metric is LOSS
    assert Depth().totals(outputs, images, targets) == (36.0, 36.0)
    assert Error().totals(outputs, images, targets) == (36.0, 12.0)
    loss, error = Error().totals(outputs * math.nan, images, targets)
    assert math.isnan(loss)
    assert error == 4e30


def test_a_metric_that_nothing_measures_is_told_at_once() -> None:
    with pytest.raises(
        UsageError, match="task Blind has the metric 'RMSE' and nothing that measures it; give it a met"
    ):
        type("Blind", (Depth,), {"metric": DEPTH})


def test_classification_is_a_task_whose_sums_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 5, generator=generator), torch.randint(5, (7,), generator=generator)
    images, task = torch.zeros(7, 1, 2, 2), Classification()
    loss, right = task.totals(logits, images, labels)
    assert loss == torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    assert right == 100 * (logits.argmax(1) == labels).sum().item()
    assert task.loss(logits, images, labels).item() == pytest.approx(loss / 7)
    assert task.measure(logits, images, labels) == pytest.approx(right / 7)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_of_the_network_is_told(label: int) -> None:
    logits, labels = torch.zeros(3, 4), torch.tensor([0, label, 1])
    told = (
        rf"the data have a label {label}, the network has 4 outputs, which are classes 0 to 3; leave such samples out"
    )
    for count in (Classification().loss, Classification().totals):
        with pytest.raises(UsageError, match=told):
            count(logits, torch.zeros(3, 1, 2, 2), labels)
