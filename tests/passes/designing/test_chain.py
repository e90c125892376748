"""The chain program against enumeration, HiGHS and the solver of independent blocks."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Sequence

import hant
import numpy as np
import pytest
from hant.passes.designing.chain import ChainDesign, ChainProblem, Limited, solve_chain, sums
from hant.transformer.errors import InfeasibleError, UsageError
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix


def make(
    chance: np.random.Generator, places: int, options: int, states: int, tight: float, **more: object
) -> ChainProblem:
    """A random chain; coarse numbers give ties, of losses and of costs with the limit."""
    coarse = chance.random() < 0.5
    loss, exits, cost, before = [], [], [], 1
    for _ in range(places):
        count = int(chance.integers(1, options + 1))
        a, c = chance.normal(size=count), chance.random((before, count))
        loss.append(np.round(a * 2) / 2 if coarse else a)
        cost.append(np.round(c * 4) / 4 if coarse else c)
        exits.append(chance.integers(0, states, count))
        before = int(exits[-1].max()) + 1
    return ChainProblem(loss, exits, cost, tight * places, **more)  # type: ignore[arg-type]


def enumerated(problem: ChainProblem) -> list[tuple[float, tuple[int, ...]]]:
    """Every design within the limit, by loss."""
    ranges = [range(len(loss)) for loss in problem.loss]
    found = [(*sums(problem, choice), choice) for choice in itertools.product(*ranges)]
    return sorted((loss, choice) for loss, cost, choice in found if cost <= problem.limit)


def test_two_thousand_small_chains_are_solved_as_by_enumeration() -> None:
    chance = np.random.default_rng(1)
    infeasible = several = 0
    for _ in range(2000):
        problem = make(
            chance, int(chance.integers(2, 5)), 4, 3, float(chance.random()),
            solutions=int(chance.integers(1, 4)), max_overlap=float(chance.choice([0.4, 0.7])),
        )  # fmt: skip
        every = enumerated(problem)
        if not every:
            infeasible += 1
            with pytest.raises(InfeasibleError, match="no design is within a cost of"):
                solve_chain(problem)
            continue
        designs = solve_chain(problem)
        several += len(designs) > 1
        for index, design in enumerate(designs):
            assert (design.objective, design.cost) == sums(problem, design.choice)
            assert design.cost <= problem.limit
            far = [pair for pair in every if _shared(designs[:index], pair[1]) <= problem.overlap]
            assert design.objective == design.bound == far[0][0]
        if len(designs) < problem.solutions:
            assert all(_shared(designs, choice) > problem.overlap for _, choice in every)
    assert infeasible > 100
    assert several > 500


def _shared(designs: Sequence[ChainDesign], choice: tuple[int, ...]) -> int:
    shares = (sum(a == b for a, b in zip(design.choice, choice, strict=True)) for design in designs)
    return max(shares, default=0)


def test_further_limits_are_kept_and_the_optimum_is_still_that_of_enumeration() -> None:
    chance = np.random.default_rng(4)
    reasons = {"within a cost": 0, "weight": 0, "at once": 0}
    for _ in range(300):
        problem = make(chance, 4, 4, 3, float(chance.uniform(0.2, 0.6)), solutions=2)
        weight = [np.round(chance.random(cost.shape) * 8) for cost in problem.cost]
        further = [Limited("weight", weight, float(chance.integers(6, 24)))]
        problem = dataclasses.replace(problem, further=further)
        heavy = dataclasses.replace(problem, cost=weight, further=())
        every = [pair for pair in enumerated(problem) if sums(heavy, pair[1])[1] <= further[0].limit]
        if not every:
            with pytest.raises(InfeasibleError) as error:
                solve_chain(problem)
            (reason,) = [reason for reason in reasons if reason in str(error.value)][-1:]
            reasons[reason] += 1
            continue
        designs = solve_chain(problem)
        assert designs[0].objective == designs[0].bound == every[0][0]
        assert all(sums(heavy, design.choice)[1] <= further[0].limit for design in designs)
        far = [pair for pair in every if _shared(designs[:1], pair[1]) <= problem.overlap]
        assert [design.objective for design in designs[1:]] == [pair[0] for pair in far[:1]]
    assert min(reasons.values()) > 0


def test_fifty_chains_are_solved_as_by_highs() -> None:
    chance = np.random.default_rng(2)
    for _ in range(50):
        problem = make(chance, 5, 24, 4, float(chance.uniform(0.1, 0.4)))
        try:
            best = solve_chain(problem)[0]
        except InfeasibleError:
            assert by_highs(problem) is None
            continue
        assert best.objective == pytest.approx(by_highs(problem), abs=1e-6)


def by_highs(problem: ChainProblem) -> float | None:
    """The optimum of the same chain as a flow with a budget."""
    arcs = [
        (place, state, option)
        for place, cost in enumerate(problem.cost)
        for state in range(cost.shape[0])
        for option in range(cost.shape[1])
    ]
    places = len(problem.loss)
    flow = lil_matrix((sum(cost.shape[0] for cost in problem.cost) + 1, len(arcs)))
    start = np.cumsum([0, *(cost.shape[0] for cost in problem.cost)])
    for column, (place, state, option) in enumerate(arcs):
        flow[start[place] + state, column] -= 1
        if place < places - 1:
            flow[start[place + 1] + int(problem.exits[place][option]), column] += 1
    balance = np.zeros(flow.shape[0])
    balance[0] = -1
    costs = np.array([problem.cost[place][state, option] for place, state, option in arcs])
    result = milp(
        [problem.loss[place][option] for place, _, option in arcs],
        constraints=[LinearConstraint(flow.tocsr(), balance, balance), LinearConstraint(costs, -np.inf, problem.limit)],
        integrality=np.ones(len(arcs)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "presolve": False},  # HiGHS of SciPy 1.11 presolves one of them to a broken flow
    )
    return float(result.fun) if result.success else None


def test_where_nothing_depends_on_the_place_before_it_is_the_solver_of_independent_blocks() -> None:
    chance = np.random.default_rng(3)
    loss, cost = chance.normal(size=(6, 8)), chance.random((6, 8))
    zero = [np.zeros(8, np.int64)] * 6
    chain = solve_chain(ChainProblem(list(loss), zero, [row[None] for row in cost], 1.5, solutions=3))
    blocks = hant.solve(hant.SelectionProblem(loss=loss, cost=cost, limits=1.5, solutions=3))
    assert [design.objective for design in chain] == pytest.approx([found.objective for found in blocks])


def large() -> ChainProblem:
    """Seven super-blocks of twelve types, five depths and seven widths, with gains that fall towards the corner."""
    chance = np.random.default_rng(4)
    widths = np.array([0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
    types, depths, states = (axis.ravel() for axis in np.meshgrid(range(12), range(1, 6), range(7), indexing="ij"))
    loss, cost = [], []
    for place in range(7):
        offset, by_depth, by_width = chance.normal(0, 1, 12), chance.uniform(0, 0.3, 12), chance.uniform(0, 3, 12)
        loss.append(offset[types] - by_depth[types] * depths - by_width[types] * np.log(widths[states]))
        rate, before = chance.uniform(0.5, 2, 12), (widths[:, None] if place else np.ones((1, 1)))
        cost.append(rate[types] * widths[states] * (before + (depths - 1) * widths[states]))
    return ChainProblem(loss, [states] * 7, cost, 30.0, solutions=20)


def test_a_paper_sized_space_is_solved_and_proven_in_time() -> None:
    problem = large()
    started = time.process_time()
    designs = solve_chain(problem)
    seconds = time.process_time() - started
    assert len(designs) == 20
    assert seconds < 30


def test_a_million_random_structures_are_never_better() -> None:
    problem = large()
    best = solve_chain(ChainProblem(problem.loss, problem.exits, problem.cost, problem.limit))[0]
    choice = np.random.default_rng(5).integers(0, 420, (10**6, 7))
    loss, cost, state = np.zeros(10**6), np.zeros(10**6), np.zeros(10**6, np.int64)
    for place in range(7):
        option = choice[:, place]
        loss, cost = loss + problem.loss[place][option], cost + problem.cost[place][state, option]
        state = problem.exits[place][option]
    assert best.objective < loss[cost <= problem.limit].min()


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match=r"place 1 of the chain has losses \(2,\).*expected costs of 3 states"):
        ChainProblem(
            [np.zeros(1), np.zeros(2)], [np.array([2]), np.zeros(2, np.int64)], [np.ones((1, 1)), np.ones((1, 2))], 1.0
        )
    with pytest.raises(UsageError, match="place 0 of the chain has numbers that are not finite"):
        ChainProblem([np.array([math.nan])], [np.zeros(1, np.int64)], [np.ones((1, 1))], 1.0)
