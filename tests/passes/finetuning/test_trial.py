"""The highest rate that a network bears is taken, by the number of steps to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from hant.passes.finetuning.examine import Found
from hant.passes.finetuning.lesson import Lesson
from hant.passes.finetuning.loop import Loop
from hant.passes.finetuning.parallel import Parallel
from hant.passes.finetuning.recipe import FinetuneRecipe
from hant.passes.finetuning.state import FinetuneState
from hant.passes.finetuning.trial import LADDER, STEPS, share_of_rate
from hant.transformer.data.images import ImageTensors
from torch import Tensor, nn

RATE = 0.5


@dataclass
class Away(Lesson):
    """Pulls the one weight away from 0, by as much as the rate allows."""

    learner: nn.Module
    steps: int = 0

    def begin(self) -> None:
        self.learner.train()

    def loss(self, learner: nn.Module, images: Tensor, targets: Any) -> Tensor:
        self.steps += 1
        loss: Tensor = -learner(images).mean()
        return loss

    def shape(self) -> None:
        pass


def tried(epochs: int, start: float = 1.0, scale: float = 1.0, lost: float = 0.0) -> tuple[float, int, float]:
    """Return the share, the steps that were taken, and the weight after; SGD goes 20 x rate x share x scale.

    The start has 100 % right, and a trial loses ``lost`` for each unit that the weight goes.
    """
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    data = ImageTensors(torch.full((80, 1), scale), torch.zeros(80, dtype=torch.long))
    recipe = FinetuneRecipe(
        epochs=epochs, steps=40, batch_size=2, learning_rate=RATE, momentum=0.0, weight_decay=0.0, seed=0, start=""
    )
    cpu = torch.device("cpu")
    state = FinetuneState(network, recipe.make_optimizer(network.parameters()), start=Found(0, 0, start, 100.0))
    lesson = Away(network)
    loop = Loop(state, lesson, recipe, data, None, cpu, Parallel(cpu))

    def examine(one: nn.Module) -> Found:
        away = abs(cast(Tensor, one.weight).item())
        return Found(0, 0, start + (0 if lost else away), 100 - lost * away)

    share = share_of_rate(loop, lambda: recipe.make_optimizer(network.parameters()), examine)
    return share, lesson.steps, network.weight.item()


@pytest.mark.parametrize(
    ("epochs", "share", "trials"),
    [
        (200, 1.0, 1),  # 8,000 steps forgive 16 times the start's divergence, the full rate adds 10
        (32, 0.25, 2),  # 1,280 forgive 2.56, a quarter adds 2.5
        (8, 0.0625, 3),  # 320 forgive 0.64, a sixteenth adds 0.625
        (1, 0.015625, 3),  # the last is taken untried
    ],
)
def test_the_highest_rate_that_the_steps_to_come_forgive_is_taken(epochs: int, share: float, trials: int) -> None:
    found, steps, weight = tried(epochs)
    assert (found, steps) == (share, trials * STEPS)
    assert weight == 0  # as it was


@pytest.mark.parametrize(("epochs", "share"), [(13, 1.0), (12, 0.25), (2, 0.0625)])
def test_right_answers_that_are_lost_are_forgiven_by_the_steps_to_come(epochs: int, share: float) -> None:
    """The full rate goes 10 units and loses all: 500 steps make up for that, 480 for a quarter, 80 for a sixteenth."""
    assert tried(epochs, lost=10.0)[0] == share


def test_a_start_without_divergence_is_forgiven_something() -> None:
    assert tried(epochs=1, start=0.0, scale=1e-6)[0] == LADDER[0]


def test_weights_that_are_no_numbers_are_never_borne() -> None:
    assert tried(epochs=10_000, scale=1e38)[0] < LADDER[0]
