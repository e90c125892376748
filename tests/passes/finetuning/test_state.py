"""Which weights become the student."""

from __future__ import annotations

import pytest
import torch
from hant.passes.finetuning.state import FinetuneState
from hant.transformer.contracts.task import Classification
from torch import nn

METRIC = Classification().metric


def offered(accuracies: list[float]) -> FinetuneState:
    """Offer the weights of the start and of every epoch, numbered."""
    network = nn.Linear(1, 1)
    state = FinetuneState(network, torch.optim.SGD(network.parameters(), 0.1))
    for epoch, accuracy in enumerate(accuracies):
        if epoch:
            state.finish_epoch({"held_out_accuracy": accuracy})
        state.offer({"weight": torch.tensor(float(epoch))}, accuracy, 1.0 + epoch, METRIC)
    return state


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([96.8], 0),
        ([96.8, 94.0], 1),
        ([96.8, 93.0, 94.0], 2),
        ([96.8, 94.0, 93.0], 1),
        ([10.0, 94.0, 94.0], 1),
        ([96.8, 10.0], 0),
        ([96.8, 10.0, 60.0], 2),
        ([0.0, 0.0], 0),
    ],
)
def test_the_best_epoch_becomes_the_student_and_the_start_only_where_training_ruined_it(
    accuracies: list[float], best: int
) -> None:
    state = offered(accuracies)
    assert state.best["weight"] == best
    assert (state.best_epoch, state.best_accuracy) == (best, accuracies[best])
