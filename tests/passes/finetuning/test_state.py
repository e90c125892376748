"""Which weights become the student."""

from __future__ import annotations

import math

import pytest
import torch
from hant.passes.finetuning.examine import Found
from hant.passes.finetuning.state import FinetuneState
from torch import nn


def offered(divergences: list[float]) -> FinetuneState:
    """Offer the weights of the start and of every epoch, numbered."""
    network = nn.Linear(1, 1)
    state = FinetuneState(network, torch.optim.SGD(network.parameters(), 0.1))
    for epoch, divergence in enumerate(divergences):
        if epoch:
            state.finish_epoch({"divergence": divergence})
        state.offer({"weight": torch.tensor(float(epoch))}, Found(90.0 + epoch, 1.0, divergence))
    return state


def test_a_state_that_only_became_less_sure_of_itself_is_not_kept() -> None:
    """It diverges less and has fewer right, and too few steps to make up for that."""
    state = offered([])
    kept = []
    for epoch, (divergence, right) in enumerate([(2.9, 50.0), (2.2, 45.0), (2.1, 42.5), (2.0, 45.0), (1.9, 33.0)]):
        if epoch:
            state.finish_epoch({})
        state.offer({"weight": torch.tensor(float(epoch))}, Found(90.0, 1.0, divergence, right), steps=40 * epoch)
        kept.append(state.best["weight"].item())
    assert kept == [0, 0, 2, 3, 3], "40 steps make up for 4 of 50 right answers, 80 for 8, 160 for 16"
    assert state.start == Found(90.0, 1.0, 2.9, 50.0)


@pytest.mark.parametrize(
    ("divergences", "best"),
    [
        ([0.3], 0),
        ([0.3, 0.4], 0),
        ([0.3, 0.2], 1),
        ([0.3, 0.4, 0.25, 0.28], 2),
        ([0.3, 0.31, 0.3], 0),
        ([0.3, math.nan], 0),
        ([math.inf, 2.0], 1),
        ([math.inf, math.inf], 0),
    ],
)
def test_the_state_nearest_to_the_teacher_becomes_the_student_the_start_among_them(
    divergences: list[float], best: int
) -> None:
    state = offered(divergences)
    assert state.best["weight"] == best
    assert state.found == Found(90.0 + best, 1.0, divergences[best])
    assert (state.best_epoch, state.start) == (best, Found(90.0, 1.0, divergences[0]))
