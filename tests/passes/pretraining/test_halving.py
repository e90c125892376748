from __future__ import annotations

from itertools import product

import pytest
from hant.op_library.pools import operation
from hant.passes.pretraining.halving import BUDGETS, ahead, expected, selected, stops

Row = dict[str, tuple[float, float]]


def block(name: str, **rivals: tuple[float, float]) -> Row:
    return {f"{name}/teacher": (1.0, 0.0), **{f"{name}/{key}": pair for key, pair in rivals.items()}}


def test_rungs_lie_after_halves_of_halves() -> None:
    assert stops(220, 0) == [220]
    assert stops(220, 2) == [55, 110, 220]
    assert stops(3, 5) == [1, 3]


@pytest.fixture
def blocks() -> list[Row]:
    """Twenty equal blocks: more choices than near-optimal selections can try."""
    rivals = {"skip": (0.0, 1.0), "half": (0.5, 0.1), "beaten": (0.6, 0.9), "poor": (0.5, 0.8)}
    return [block(f"b{i}", **rivals) for i in range(20)]


def test_what_the_best_selection_of_any_budget_uses_goes_on(blocks: list[Row]) -> None:
    kept = selected(blocks, [0] * 20)
    assert {f"b{i}/half" for i in range(20)} <= kept
    assert {f"b{i}/skip" for i in range(20)} <= kept


def test_what_none_of_them_uses_does_not(blocks: list[Row]) -> None:
    kept = selected(blocks, [0] * 20)
    assert sum(key.endswith(("/beaten", "/poor")) for key in kept) < 20  # of 40; diverse ones use some


def test_every_optimum_of_a_small_problem_is_among_them() -> None:
    blocks = [
        block("one", a=(0.1, 0.9), b=(0.4, 0.2)),
        block("two", a=(0.2, 0.5), b=(0.5, 0.3)),
        block("three", a=(0.3, 0.4), b=(0.7, 0.05)),
    ]
    kept = selected(blocks, [0, 0, 0])
    for budget in BUDGETS:
        limit = 3.0 * budget
        choices = list(product(*(row.items() for row in blocks)))
        inside = [c for c in choices if sum(ms for _, (ms, _) in c) <= limit]
        if inside:
            best = min(inside, key=lambda c: sum(error for _, (_, error) in c))
            assert {key for key, _ in best} <= kept


def test_budgets_that_nothing_meets_are_left_out() -> None:
    assert selected([block("one", a=(0.7, 0.2))], [0]) == {"one/a"}  # from 0.75 on
    assert selected([block("one", a=(0.9, 0.2))], [0]) == set()
    assert selected([], []) == set()


def test_the_middle_of_every_stage_goes_ahead() -> None:
    stage = {f"b{i}": i // 5 for i in range(11)}  # the last stage has one block only
    quick, slow, rare = map(operation, ("cb_res_1x1", "cb_res_3x3", "identity"))
    pairs = [(name, spec) for name in stage for spec in (quick, slow)] + [("b0", rare), ("b6", rare)]
    assert ahead(pairs, stage) == [("b2", quick), ("b7", quick), ("b2", slow), ("b7", slow)]
    apart = {name: index for index, name in enumerate(stage)}
    assert ahead(pairs, apart) == [("b5", quick), ("b5", slow)]
    assert ahead([], {}) == []


def test_errors_are_judged_by_what_became_of_the_same_operation() -> None:
    stage = {"a": 0, "b": 0, "c": 1, "d": 1}
    errors = {"a/slow": 0.4, "b/slow": 0.6, "c/slow": 0.5, "d/slow": 0.8, "a/quick": 0.3, "c/quick": 0.2, "d/new": 0.7}
    found = expected(errors, {"a/slow": 0.1, "c/slow": 0.3, "a/quick": 0.3}, stage)
    assert found == pytest.approx(
        {"a/slow": 0.1, "b/slow": 0.15, "c/slow": 0.3, "d/slow": 0.48, "a/quick": 0.3, "c/quick": 0.2, "d/new": 0.7}
    )
    assert expected({"b/skip": 0.0, "a/skip": 0.0}, {"a/skip": 0.0}, stage) == {"b/skip": 0.0, "a/skip": 0.0}


def test_what_learns_slowly_goes_on_where_it_would_be_better_in_the_end() -> None:
    blocks = [f"b{i}" for i in range(20)]
    errors = {f"{name}/{kind}": error for name in blocks for kind, error in (("quick", 0.3), ("slow", 0.5))}
    stage = dict.fromkeys(blocks, 0)

    def kept(found: dict[str, float]) -> int:
        rows = [block(name, **{kind: (0.5, found[f"{name}/{kind}"]) for kind in ("quick", "slow")}) for name in blocks]
        return sum(key.endswith("/slow") for key in selected(rows, [0] * 20))

    assert kept(errors) < 20
    assert kept(expected(errors, {"b9/quick": 0.28, "b9/slow": 0.1}, stage)) == 20
