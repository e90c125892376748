"""Prunode's walk against the optimum of random monotone problems (PruNet, algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hant.passes.searching.prunet.walk import Corner, Walk
from hypothesis import given
from hypothesis import strategies as st

UPDATES, RATE = 300, 0.1


def regrets(corner: Corner, lowest: bool, count: int = 1000) -> np.ndarray:
    """Walk on ``count`` random problems; return found minus best objective over the range of each.

    The loss falls with the rung in random steps, latency rises with it at a random price. Steps fall too, as returns
    diminish; with ``lowest`` they only tend to, and problems are kept whose best rung is in the lowest quarter, but not
    the lowest of all. The weight follows Adam on the gradient of a Gumbel-softmax mixture of the two rungs' objectives.
    """
    random = np.random.default_rng(0)
    found: list[float] = []
    while len(found) < count:
        rungs = int(random.integers(4, 33))
        fall = np.exp(-random.uniform(0, 8) * np.arange(2, rungs + 1) / rungs)
        steps = random.gamma(6, size=rungs - 1) * fall if lowest else np.sort(random.gamma(0.5, size=rungs - 1))[::-1]
        loss = np.concatenate([[0.0], -np.cumsum(steps) / max(steps.sum(), 1e-9)])
        objective = loss + random.uniform(0.1, 1.5) * np.arange(rungs) / (rungs - 1)
        best = int(objective.argmin())
        if lowest and not 0 < best < rungs // 4:
            continue
        spread = float(np.ptp(objective))
        found.append((objective[_walked(objective, corner, random) - 1] - objective.min()) / spread)
    return np.array(found)


def _walked(objective: np.ndarray, corner: Corner, random: np.random.Generator) -> int:
    walk = Walk(len(objective), corner=corner)
    first = second = 0.0
    uniform = random.random((UPDATES, 2))
    noise = -np.log(-np.log(np.clip(uniform, 1e-9, 1 - 1e-9)))
    for step in range(UPDATES):
        share = 1 / (1 + math.exp(min(50.0, -(walk.weight + noise[step, 1] - noise[step, 0]))))
        gradient = share * (1 - share) * float(objective[walk.large - 1] - objective[walk.small - 1])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = RATE * 0.5 * (1 + math.cos(math.pi * step / UPDATES))
        moved = rate * (first / (1 - 0.9 ** (step + 1))) / (math.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
        walk = walk.advance(walk.weight - moved, step / UPDATES)
    return walk.best


def test_the_walk_ends_near_the_best_width() -> None:
    found = regrets("reset", lowest=False)
    assert found.mean() <= 0.005
    assert np.quantile(found, 0.95) <= 0.02


def test_the_lower_corner_is_no_trap() -> None:
    ours, printed = regrets("reset", lowest=True, count=300), regrets("paper", lowest=True, count=300)
    assert ours.mean() <= 0.01
    assert printed.mean() > 2.5 * ours.mean()


@given(
    rungs=st.integers(1, 300),
    weights=st.lists(st.floats(-5, 5, allow_nan=False), max_size=40),
    corner=st.sampled_from(["reset", "paper"]),
)
def test_two_different_widths_of_the_ladder_are_in_work(rungs: int, weights: list[float], corner: Corner) -> None:
    walk = Walk(rungs, corner=corner)
    for step, weight in enumerate(weights):
        walk = walk.advance(weight, step / max(1, len(weights)))
        assert 1 <= walk.small <= rungs
        assert walk.small < walk.large <= rungs or rungs == 1
        assert walk.best in (walk.small, walk.large)


def test_one_step_of_the_algorithm_by_hand() -> None:
    walk = Walk(16).advance(0.1, 0.0)  # update 0.1, d 0.6: low 0.6 is clipped to 1 - 0.8 * 0.6
    assert (walk.low, walk.high, walk.weight, walk.update) == pytest.approx((0.52, 1.12, 0.0, 0.1))
    assert (walk.small, walk.large) == (8, 16)
    walk = walk.advance(-0.3, 0.5)  # update 0.04 - 0.3, d 0.15
    assert (walk.low, walk.high, walk.update) == pytest.approx((0.26, 0.41, -0.26))
    assert (walk.small, walk.large) == (4, 7)


def test_at_the_lower_corner_the_weight_is_put_back_unless_as_printed() -> None:
    assert Walk(16).advance(-0.7, 0.0).weight == 0.0
    assert Walk(16, corner="paper").advance(-0.7, 0.0).weight == -0.7
    assert Walk(16, corner="paper").advance(-0.7, 0.0).low == 0.0


def test_neighbours_stay_and_the_weight_decides() -> None:
    walk = replace(Walk(8), low=0.25, high=0.3).advance(0.4, 0.9)
    assert walk.settled
    assert (walk.small, walk.large, walk.best) == (2, 3, 3)
    assert walk.advance(-0.4, 0.9).best == 2
