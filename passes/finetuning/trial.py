"""How high the learning rate may be: a few steps tell what a network bears, whatever it is made of.

A rate that is too high destroys in its first steps what a short training never gets back and a long one does. So the
highest rate of a ladder is taken that leaves the student near enough to the teacher after ``STEPS`` steps; how near
depends on the number of steps that are to come.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from .examine import FORGIVEN, Found, least_right
from .loop import Loop
from .state import FinetuneState

STEPS = 20
"""Steps of a trial: momentum needs ten of them to reach its full length."""
LADDER = (1.0, 0.25, 0.0625, 0.015625)
"""Shares of the recipe's rate; the last is taken where all before it are too high."""
_SLIGHT = 0.02
"""A divergence (nats) that is as good as none: twice of nothing would forgive nothing."""


def share_of_rate(
    loop: Loop, fresh: Callable[[], torch.optim.Optimizer], examine: Callable[[nn.Module], Found]
) -> float:
    """Return the share of the recipe's rate to train with; the network is left as it is.

    Args:
        loop: of the training, at its start.
        fresh: makes a new optimizer of what is trained.
        examine: tells how far a network is from the teacher.
    """
    state, recipe = loop.state, loop.recipe
    assert state.start is not None, "the start was offered"
    before = state.start.divergence
    most = before + max(abs(before), _SLIGHT) * recipe.total / FORGIVEN
    least = least_right(state.start, recipe.total)
    start = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    for share in LADDER[:-1]:
        tried = FinetuneState(state.network, fresh(), scaler=copy.deepcopy(state.scaler), share=share)
        trial = replace(recipe, epochs=1, steps=min(STEPS, recipe.steps), ema=0.0, constant=True)
        loop.beside(tried, trial).epoch()
        after = examine(state.network) if tried.finite else None
        state.network.load_state_dict(start)
        if after is not None and after.divergence <= most and after.right >= least:
            return share
    return LADDER[-1]
