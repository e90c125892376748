"""Engines against brute force, and the promises of ``solve``."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hant
import numpy as np
import pytest
from hant import SelectionProblem
from hant.passes.selecting.solver.check import violations
from hant.passes.selecting.solver.dynamic import optimum_under_budget
from hant.passes.selecting.solver.enumeration import enumerate_pool
from hant.passes.selecting.solver.instance import build
from hant.passes.selecting.solver.pool import Effort, pool_selections
from hant.passes.selecting.solver.problem import Selection
from hant.passes.selecting.solver.relaxation import Relaxation
from hant.transformer.errors import InfeasibleError, UsageError

_spec = importlib.util.spec_from_file_location("selection_instances", Path(__file__).with_name("instances.py"))
assert _spec is not None
assert _spec.loader is not None
small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)


def search(problem: SelectionProblem) -> list[Selection]:
    """Solve as where there are too many selections to enumerate."""
    return list(pool_selections(build(problem), Effort(few=0)))


def agrees_with_brute_force(
    problem: SelectionProblem, *engines: Callable[[SelectionProblem], list[Selection]], exact_pool: bool
) -> None:
    feasible = small.feasible_choices(problem)
    for engine in engines:
        if feasible:
            check_pool(problem, engine(problem), feasible, exact_pool)
        else:
            with pytest.raises(InfeasibleError):
                engine(problem)


def check_pool(problem: SelectionProblem, selections: list[Selection], feasible: list[Any], exact_pool: bool) -> None:
    assert violations(problem, selections) == []
    earlier: list[tuple[int, ...]] = []
    for index, selection in enumerate(selections):
        best = small.best_given(problem, feasible, earlier)
        assert selection.bound <= best + 1e-9 <= selection.objective + 2e-9
        if index == 0 or exact_pool:
            assert selection.objective == pytest.approx(best, abs=1e-9)
            assert selection.gap == pytest.approx(0, abs=1e-9)
        earlier.append(tuple(selection.choice))
    if len(selections) < problem.solutions:
        assert small.best_given(problem, feasible, earlier) is None


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("engine", ["pulp", "pulp-cbc"])
def test_reference_engines_agree_with_brute_force(seed: int, engine: str) -> None:
    problem = small.random_problem(seed, solutions=3)
    agrees_with_brute_force(problem, partial(hant.solve, engine=engine), exact_pool=True)


@pytest.mark.parametrize("part", range(10))
def test_default_engine_agrees_with_brute_force(part: int) -> None:
    for seed in range(part * 20, part * 20 + 20):
        agrees_with_brute_force(small.random_problem(seed), hant.solve, exact_pool=True)
        agrees_with_brute_force(small.random_problem(seed), search, exact_pool=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(100))
def test_default_engine_agrees_with_brute_force_on_100000_problems(part: int) -> None:
    for seed in range(part * 1000, part * 1000 + 1000):
        agrees_with_brute_force(small.random_problem(seed, solutions=2), hant.solve, search, exact_pool=False)


@pytest.mark.parametrize("seed", range(12))
def test_a_pool_of_few_blocks_is_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    blocks, operations = 7 + seed % 3, 9
    loss, cost = random.random((blocks, operations)), random.random((blocks, operations))
    limit = cost.min(1).sum() + 0.4 * np.ptp(cost, axis=1).sum()
    problem = SelectionProblem(loss=loss, cost=cost, limits=limit, solutions=8)
    ours, exact = hant.solve(problem), hant.solve(problem, "pulp")
    assert [s.objective for s in ours] == pytest.approx([s.objective for s in exact], abs=1e-9)
    assert all(s.gap == 0 for s in ours)


def test_enumeration_gives_up_when_there_is_too_much_to_list_and_search_goes_on() -> None:
    random = np.random.default_rng(0)
    instance = build(
        SelectionProblem(loss=random.random((9, 9)), cost=random.random((9, 9)), limits=4.0, solutions=60)
    ).scaled()
    point = Relaxation(instance, np.arange(len(instance.block))).solve()
    assert point is not None
    first = optimum_under_budget(instance)
    whole = enumerate_pool(instance, point, first)
    part = enumerate_pool(instance, point, first, most=300)
    assert whole.complete
    assert len(whole.selections) == 60
    assert not part.complete
    assert 1 < len(part.selections) < 60
    assert np.array_equal(part.selections, whole.selections[: len(part.selections)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_default_engine_agrees_with_highs_on_middling_problems(seed: int) -> None:
    problem = small.random_problem(seed, most_blocks=20, most_operations=30, solutions=6)
    try:
        reference = hant.solve(replace(problem, solutions=1), "pulp")[0]
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            hant.solve(problem)
        return
    selections = hant.solve(problem)
    assert selections[0].objective == pytest.approx(reference.objective, abs=1e-9)
    assert violations(problem, selections) == []
    assert all(s.bound >= reference.objective - 1e-9 for s in selections)


def test_blocks_may_have_different_numbers_of_operations() -> None:
    problem = SelectionProblem(loss=[[0.0, 1.0, 2.0], [0.5]], cost=[[3.0, 2.0, 1.0], [1.0]], limits=3.0)
    (best,) = hant.solve(problem)
    assert best.choice.tolist() == [1, 0]
    assert (best.objective, best.cost, best.gap) == (1.5, 3.0, 0.0)


def test_pins_bans_and_mask_hold() -> None:
    loss, cost = np.arange(12.0).reshape(3, 4), np.ones((3, 4))
    allowed = np.ones((3, 4), dtype=bool)
    allowed[2, 0] = False
    loss[2, 0] = np.nan
    problem = SelectionProblem(loss=loss, cost=cost, limits=3, pins={0: 2}, bans=[(1, 0)], allowed=allowed)
    assert hant.solve(problem)[0].choice.tolist() == [2, 1, 1]


def test_costs_by_name_are_reported_and_unlimited_ones_too() -> None:
    loss, ms, params = [[0.0, 1.0]], [[2.0, 1.0]], [[10.0, 20.0]]
    (best,) = hant.solve(SelectionProblem(loss=loss, cost={"ms": ms, "params": params}, limits={"ms": 1.5}))
    assert best.cost == {"ms": 1.0, "params": 20.0}


def test_fewer_selections_than_asked_for_is_no_error() -> None:
    problem = SelectionProblem(loss=[[0.0, 1.0]], cost=[[1.0, 1.0]], limits=1, solutions=5)
    assert [s.choice.tolist() for s in hant.solve(problem)] == [[0], [1]]


def test_overlap_is_the_floor_of_the_share() -> None:
    problem = SelectionProblem(loss=np.zeros((46, 2)), cost=np.zeros((46, 2)), max_overlap=43 / 46)
    assert problem.overlap == 43
    assert SelectionProblem(loss=np.zeros((46, 2)), cost=np.zeros((46, 2)), max_overlap=0.7).overlap == 32
    assert SelectionProblem(loss=np.zeros((10, 2)), cost=np.zeros((10, 2)), max_overlap=0.7).overlap == 7
    assert SelectionProblem(loss=np.zeros((10, 2)), cost=np.zeros((10, 2)), max_overlap=1.0).overlap == 9


def test_a_limit_is_exact_not_within_a_tolerance() -> None:
    # 0.1 + 0.2 exceeds 0.3 as floats are read exactly, 0.30000000000000004 is the least limit that admits it
    loss, cost = [[0.0, 1.0], [0.0, 1.0]], [[0.1, 0.0], [0.2, 0.0]]
    for engine in ("default", "pulp"):
        assert hant.solve(SelectionProblem(loss=loss, cost=cost, limits=0.3), engine)[0].objective == 1
        assert hant.solve(SelectionProblem(loss=loss, cost=cost, limits=0.30000000000000004), engine)[0].objective == 0


def test_the_same_problem_gives_the_same_bits() -> None:
    problem = small.random_problem(1000, most_blocks=12, most_operations=20, solutions=10)
    first, second = hant.solve(problem), hant.solve(problem)
    assert [s.choice.tolist() for s in first] == [s.choice.tolist() for s in second]
    assert [(s.objective, s.bound) for s in first] == [(s.objective, s.bound) for s in second]


def test_threads_do_not_change_the_bits() -> None:
    code = (
        "import numpy as np, hant; r = np.random.default_rng(0); a, b = r.random((12, 20)), r.random((12, 20));"
        "s = hant.solve(hant.SelectionProblem(loss=a, cost=b, limits=3.0, solutions=5));"
        "print([(x.choice.tolist(), x.objective.hex(), float(x.bound).hex()) for x in s])"
    )
    said = set()
    for threads in ("1", "2", "4"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.add(run.stdout)
    assert len(said) == 1


def test_a_real_size_is_selected_within_a_certified_gap() -> None:
    random = np.random.default_rng(3)
    share = random.uniform(0.0, 1.4, (30, 60))
    loss = random.lognormal(0, 1, (30, 1)) * np.clip(1 - share, 0, 1) ** 1.7 * random.lognormal(0, 0.3, share.shape)
    problem = SelectionProblem(loss=loss, cost=share / 30, limits=0.45, solutions=30)
    selections = hant.solve(problem)
    gaps = [s.gap for s in selections]
    assert len(selections) == 30
    assert gaps[0] == 0
    assert max(gaps) <= 0.01
    assert selections[0].objective == pytest.approx(hant.solve(replace(problem, solutions=1), "pulp")[0].objective)


@pytest.mark.parametrize("engine", ["default", "pulp"])
def test_infeasible_tells_the_least_and_which_limit_binds(engine: str) -> None:
    problem = SelectionProblem(
        loss=[[0.0, 1.0]], cost={"ms": [[2.0, 1.0]], "params": [[5.0, 9.0]]}, limits={"ms": 0.5, "params": 9.0}
    )
    with pytest.raises(
        InfeasibleError, match=r"no selection has ms at most 0.5; the least that can be reached is 1,"
    ) as e:
        hant.solve(problem, engine)
    assert e.value.least == {"ms": 1.0, "params": 5.0}
    assert e.value.exit_code == 3


@pytest.mark.parametrize("engine", ["default", "pulp"])
def test_limits_that_exclude_each_other_are_told_as_such(engine: str) -> None:
    problem = SelectionProblem(
        loss=[[0.0, 1.0]], cost={"ms": [[2.0, 1.0]], "params": [[5.0, 9.0]]}, limits={"ms": 1.5, "params": 6.0}
    )
    with pytest.raises(InfeasibleError, match=r"not all together; ms can reach 2 \(limit 1.5\) under the others") as e:
        hant.solve(problem, engine)
    assert e.value.least == {"ms": 2.0, "params": 9.0}


def test_a_range_above_the_most_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="at least 9; the most that can be reached is 2,"):
        hant.solve(SelectionProblem(loss=[[0.0, 1.0]], cost=[[2.0, 1.0]], limits=(9, None)))


TWO: dict[str, Any] = {"loss": [[0.0, 1.0]], "cost": [[1.0, 2.0]], "limits": 2.0}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"loss": [[np.nan, 1.0]]}, "loss of block 0, operation 0 is nan; expected a finite number"),
        ({"cost": [[1.0, np.inf]]}, "cost 'cost' of block 0, operation 1 is inf; expected a finite number"),
        ({"loss": [[-1e200, 1.0]]}, r"operation 0 is -1e\+200; expected a finite number below 1e\+100"),
        ({"loss": []}, "no blocks"),
        ({"loss": [[]], "cost": [[]]}, "block 0 has no allowed operation"),
        ({"loss": 3.0}, "loss is not a table of numbers"),
        ({"loss": [[["x"]]]}, "loss is not a table of numbers"),
        ({"loss": np.zeros((1, 2, 1))}, r"loss of block 0 has shape \(2, 1\)"),
        ({"cost": [[1.0]]}, "cost 'cost' does not fit the loss"),
        ({"cost": {}, "limits": {}}, "has no costs"),
        ({"cost": {"ms": [[1.0, 2.0]]}}, "cost and limits do not fit"),
        ({"cost": {"ms": [[1.0, 2.0]]}, "limits": {"msec": 1}}, "limit on 'msec' but no such cost; did you mean 'ms'"),
        ({"limits": np.nan}, "limit of 'cost' is nan; expected a finite number"),
        ({"limits": np.inf}, "limit of 'cost' is inf; expected a finite number"),
        ({"limits": (2.0, 1.0)}, r"limit of 'cost' is \(2.0, 1.0\); expected"),
        ({"limits": (np.nan, 1.0)}, "expected a finite number or a"),
        ({"limits": "much"}, "limit of 'cost' is 'much'"),
        ({"solutions": 0}, "solutions is 0; expected a whole number"),
        ({"max_overlap": 1.5}, "max_overlap is 1.5; expected a share"),
        ({"pins": {4: 0}}, "pin of block 4, operation 0 does not exist; there are 1 blocks"),
        ({"bans": [(0, 7)]}, "ban of block 0, operation 7 does not exist"),
        ({"pins": {0: 1}, "bans": [(0, 1)]}, "block 0 is pinned to operation 1, which is banned"),
        ({"bans": [(0, 0), (0, 1)]}, "block 0 has no allowed operation"),
        ({"allowed": [[True]]}, "allowed does not fit the loss"),
        ({"allowed": [[1, 0]]}, "expected booleans"),
    ],
)
def test_malformed_problems_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        hant.solve(SelectionProblem(**{**TWO, **change}))


def test_unknown_engine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no selection engine 'pulb'; did you mean 'pulp'"):
        hant.solve(SelectionProblem(**TWO), engine="pulb")


@pytest.mark.parametrize("seed", range(60))
def test_near_a_choice_the_optimum_is_that_of_all_selections_near_it(seed: int) -> None:
    problem = small.random_problem(seed, solutions=1)
    table: Any = problem.loss
    rng = np.random.default_rng(seed)
    choice, radius = [int(rng.integers(len(row))) for row in table], int(rng.integers(0, len(table) + 1))
    near = replace(problem, near=(choice, radius))
    within = [
        (objective, other)
        for objective, other in small.feasible_choices(problem)
        if sum(a != b for a, b in zip(choice, other, strict=True)) <= radius
    ]
    if not within:
        with pytest.raises(InfeasibleError):
            hant.solve(near)
        return
    (best,) = hant.solve(near)
    assert best.objective == float(within[0][0])
    assert not violations(near, [best])


def test_near_holds_on_a_table_of_the_usual_size_and_equals_branch_and_cut() -> None:
    rng = np.random.default_rng(0)
    loss, cost = rng.random((27, 15)), rng.random((27, 15))
    problem = SelectionProblem(loss=loss, cost=cost, limits=0.45 * 27 * 0.6)
    start = hant.solve(problem)[0].choice
    other = rng.random((27, 15))
    for radius in (1, 3, 8):
        near = replace(problem, loss=other, near=(start, radius))
        (best,), (reference,) = hant.solve(near), hant.solve(near, "pulp")
        assert (best.choice != start).sum() <= radius
        assert best.objective == pytest.approx(reference.objective, abs=1e-12)
    assert isinstance(best.cost, float)  # the count of changes is nobody's cost


@pytest.mark.parametrize("near", [([0, 0], 1), ([0, 0, 0], -1), ([0, 0, 9], 1), "x", ([0, 0, 0], 0.5)])
def test_a_wrong_near_is_told(near: Any) -> None:
    with pytest.raises(UsageError, match="near"):
        hant.solve(SelectionProblem(loss=np.ones((3, 2)), cost=np.ones((3, 2)), limits=9.0, near=near))


def test_the_check_counts_changes() -> None:
    problem = SelectionProblem(loss=np.ones((3, 2)), cost=np.ones((3, 2)), limits=9.0)
    (best,) = hant.solve(problem)
    wrong = violations(replace(problem, near=([1, 1, 1], 1)), [best])
    assert wrong == ["selection 0 differs from near in 3 blocks, at most 1 are allowed"]
