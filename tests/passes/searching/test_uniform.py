"""Uniform sampling against counting all choices."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hant.passes.searching.contest import Contest, Ints
from hant.passes.searching.greedy import greedy
from hant.passes.searching.uniform import UniformSampler
from hant.passes.selecting.table import SearchTable
from hant.transformer.errors import InfeasibleError


def contest(seed: int, limit_share: float, blocks: int = 4, operations: int = 3, further: bool = False) -> Contest:
    rng = np.random.default_rng(seed)
    loss, cost = rng.random((2, blocks, operations))
    loss[:, 0], cost[:, 0] = 0, 1
    names = ("teacher", *(f"op{j}" for j in range(1, operations)))
    other = rng.random((blocks, operations))
    table = SearchTable(
        tuple(f"b{i}" for i in range(blocks)),
        (names,) * blocks,
        tuple(loss),
        {"ms": tuple(cost), "params": tuple(other)},
    )
    least = cost.min(1).sum()
    limits = {"ms": float(least + limit_share * (blocks - least))}
    return Contest(table, limits | ({"params": float(other.sum(0).mean())} if further else {}))


def feasible(task: Contest) -> list[Ints]:
    rows = [range(len(operations)) for operations in task.table.operations]
    return [np.array(choice) for choice in itertools.product(*rows) if task.within(np.array(choice))]


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_every_choice_within_the_limits_is_drawn_equally_often(share: float, further: bool) -> None:
    task = contest(1, share, further=further)
    expected = {tuple(choice.tolist()) for choice in feasible(task)}
    sampler = UniformSampler(task, seed=7)
    drawn = Counter(tuple(sampler.draw().tolist()) for _ in range(200 * len(expected)))
    assert set(drawn) == expected
    # chi-square of the counts stays near its degrees of freedom
    spread = sum((count - 200) ** 2 / 200 for count in drawn.values())
    assert spread < len(expected) + 5 * (2 * len(expected)) ** 0.5


def test_distinct_choices_are_all_of_them_where_there_are_few() -> None:
    task = contest(2, 0.15)
    assert len(UniformSampler(task, 0).distinct(1000)) == len(feasible(task))


def test_no_choice_within_the_limits_is_told() -> None:
    task = contest(3, -0.1)
    with pytest.raises(InfeasibleError, match="no random choice is within the limits"):
        UniformSampler(task, 0).draw()


@pytest.mark.parametrize("seed", range(30))
def test_greedy_keeps_every_limit_and_never_beats_the_optimum(seed: int) -> None:
    task = contest(seed, 0.3, further=seed % 2 == 1)
    choices = feasible(task)
    if not choices:
        return
    found = greedy(task)
    assert task.within(found)
    assert task.objective(found) >= min(task.objective(choice) for choice in choices) - 1e-12


def test_the_most_probable_choice_within_the_limits() -> None:
    task = contest(5, 0.3)
    rng = np.random.default_rng(0)
    rows = tuple(np.log(rng.dirichlet(np.ones(3))) for _ in range(4))
    found = task.most_probable(rows)

    def score(choice: Ints) -> float:
        return float(sum(row[i] for row, i in zip(rows, choice, strict=True)))

    assert score(found) == pytest.approx(max(score(choice) for choice in feasible(task)))


def test_greedy_at_a_dead_end_is_told() -> None:
    with pytest.raises(InfeasibleError, match="greedy exchange does not reach the budget"):
        greedy(contest(3, -0.1))
