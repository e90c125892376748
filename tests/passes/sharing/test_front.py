"""The mean accuracy over a range of costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hant.passes.finetuning.records import EpochRecord
from hant.passes.sharing.front import FrontPoint, draw_training, mean_pareto_accuracy, means
from hant.transformer.contracts.task import TOP1
from hant.transformer.runs.store import RunStore

COSTS = (150, 221, 293, 383, 425, 565)
FIGURE_5D = {
    "DepS": ((73.70, 74.80, 75.45, 76.20, 76.35, 77.30), 75.82),
    "OFA": ((71.85, 74.50, 75.45, 76.70, 76.72, 77.25), 75.76),
    "BigNAS": ((70.65, 71.75, 72.10, 72.65, 73.30, 73.60), 72.52),
}
"""ImageNet-1k, read off figure 5d of DepS; the paper prints 75.81, 75.77 and 72.51."""


@pytest.mark.parametrize("series", FIGURE_5D)
def test_the_papers_points_give_the_papers_means(series: str) -> None:
    accuracies, mean = FIGURE_5D[series]
    assert mean_pareto_accuracy(zip(COSTS, accuracies, strict=True)) == pytest.approx(mean, abs=0.005)


def test_order_scale_and_offset_of_the_costs_do_not_count() -> None:
    points = [(1.0, 60.0), (2.0, 80.0), (4.0, 90.0)]
    assert mean_pareto_accuracy(points) == pytest.approx((70 * 1 + 85 * 2) / 3)
    moved = [(7 + 3 * cost, accuracy) for cost, accuracy in reversed(points)]
    assert mean_pareto_accuracy(moved) == pytest.approx(mean_pareto_accuracy(points))


def test_of_equal_costs_the_best_counts_and_one_point_is_its_own_mean() -> None:
    assert mean_pareto_accuracy([(1.0, 50.0), (1.0, 70.0)]) == 70.0
    assert mean_pareto_accuracy([(1.0, 50.0), (2.0, 90.0), (1.0, 70.0)]) == pytest.approx(80.0)
    with pytest.raises(ValueError, match="at least one point"):
        mean_pareto_accuracy([])


def test_means_are_taken_by_target_over_what_was_measured() -> None:
    common = {"budget": "0.5", "student": "x", "made": True}
    points = [
        FrontPoint(target="a", ratio=0.3, accuracy=80.0, **common),  # type: ignore[arg-type]
        FrontPoint(target="a", ratio=0.5, accuracy=90.0, **common),  # type: ignore[arg-type]
        FrontPoint(target="a", **common),  # type: ignore[arg-type]
        FrontPoint(target="b", ratio=0.4, accuracy=70.0, **common),  # type: ignore[arg-type]
    ]
    assert means(points) == {"a": pytest.approx(85.0), "b": pytest.approx(70.0)}


def test_each_student_in_training_is_a_line_over_both_stages(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        assert draw_training(store, TOP1) == ""
        for stage, count in (("shrink-align", 2), ("shrink", 1)):
            for epoch in range(count + 1):
                record = EpochRecord(
                    stage=stage,
                    epoch=epoch,
                    train_loss=None,
                    held_out_accuracy=50.0,
                    learning_rate=0.1,
                    seconds=1.0,
                    recipe="",
                    students={"least": 40.0, "full": 60.0 + epoch} if epoch else {},
                )
                store.put(f"{stage}/{epoch:04d}", record)
        drawn = draw_training(store, TOP1)
    assert all(name in drawn for name in ("least", "full", "top-1 on held-out images"))
    assert drawn.count("<circle") == 6 + 2  # two of them in the legend
