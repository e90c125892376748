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
