"""Properties of the engine's parts on instances small enough to know the truth."""

from collections.abc import Iterator

import numpy as np
import pytest
from hant import SelectionProblem
from hant.passes.selecting.solver.branch import branch
from hant.passes.selecting.solver.dual import solve_dual
from hant.passes.selecting.solver.dynamic import optimum_under_budget
from hant.passes.selecting.solver.instance import Instance, build
from hant.passes.selecting.solver.limits import holds
from hant.passes.selecting.solver.reduce import undominated
from hant.passes.selecting.solver.relaxation import Relaxation
from numpy.typing import NDArray


def instance(seed: int, blocks: int = 5, operations: int = 8, share: float = 0.4) -> Instance:
    random = np.random.default_rng(seed)
    loss, cost = random.random((blocks, operations)), random.random((blocks, operations))
    limit = cost.min(1).sum() + share * np.ptp(cost, axis=1).sum()
    return build(SelectionProblem(loss=loss, cost=cost, limits=limit, solutions=3)).scaled()


@pytest.mark.parametrize("seed", range(20))
def test_dual_bound_relaxation_bound_and_optimum_are_ordered(seed: int) -> None:
    problem = instance(seed)
    dual = solve_dual(problem)
    point = Relaxation(problem, np.arange(len(problem.block))).solve()
    assert point is not None
    best = problem.loss[optimum_under_budget(problem)].sum()
    # one budget: the Lagrangian dual and the linear relaxation are the same number
    assert dual.bound == pytest.approx(point.bound, abs=1e-7)
    assert dual.bound <= best + 1e-12
    assert (dual.reduced >= 0).all()
    assert best == pytest.approx(problem.loss[branch(problem, point_earlier(problem), all_of(problem)).entries].sum())


def point_earlier(problem: Instance) -> NDArray[np.int64]:
    return np.zeros((0, problem.blocks), dtype=np.int64)


def all_of(problem: Instance) -> NDArray[np.int64]:
    return np.arange(len(problem.block))


@pytest.mark.parametrize("seed", range(20))
def test_few_columns_and_all_columns_prove_the_same_bound(seed: int) -> None:
    problem = instance(seed, blocks=30, operations=40)
    few = Relaxation(problem, problem.start[:-1])
    every = Relaxation(problem, all_of(problem))
    for _ in range(4):
        one, other = few.solve(), every.solve()
        assert one is not None
        assert other is not None
        assert one.bound == pytest.approx(other.bound, abs=1e-7)
        chosen = problem.start[:-1] + np.array([other.share[b:e].argmax() for b, e in blocks_of(problem)])
        few.exclude(chosen)
        every.exclude(chosen)


def blocks_of(problem: Instance) -> Iterator[tuple[int, int]]:
    return zip(problem.start[:-1], problem.start[1:], strict=True)


@pytest.mark.parametrize("seed", range(20))
def test_leaving_dominated_entries_out_loses_no_optimum_under_the_overlap(seed: int) -> None:
    problem = instance(seed, blocks=6, operations=8)
    first = optimum_under_budget(problem)
    second = branch(problem, first[None], all_of(problem)).entries
    assert second is not None
    earlier = np.vstack([first, second])
    kept = undominated(problem, earlier, all_of(problem))
    assert len(kept) < len(problem.block)
    with_all, with_kept = branch(problem, earlier, all_of(problem)), branch(problem, earlier, kept)
    assert problem.loss[with_kept.entries].sum() == pytest.approx(problem.loss[with_all.entries].sum(), abs=1e-12)


def test_scaling_is_by_powers_of_two_and_changes_no_answer() -> None:
    random = np.random.default_rng(0)
    loss, cost = random.random((6, 9)), random.random((6, 9))
    best = [
        optimum_under_budget(build(SelectionProblem(loss=loss * s, cost=cost * t, limits=2.0 * t)).scaled()).tolist()
        for s, t in ((1, 1), (2.0**40, 2.0**-30), (2.0**-60, 2.0**20))
    ]
    assert best[0] == best[1] == best[2]


def test_holds_decides_ties_exactly() -> None:
    problem = build(SelectionProblem(loss=[[0.0], [0.0]], cost=[[0.1], [0.2]], limits=0.3))
    assert not holds(problem, np.array([0, 1]))
    problem = build(SelectionProblem(loss=[[0.0], [0.0]], cost=[[0.25], [0.5]], limits=0.75))
    assert holds(problem, np.array([0, 1]))
