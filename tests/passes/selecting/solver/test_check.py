"""The checker must find every kind of broken promise."""

from dataclasses import replace
from typing import Any

import hant
import numpy as np
import pytest
from hant import SelectionProblem
from hant.passes.selecting.solver.check import exact_sum, violations

PROBLEM = SelectionProblem(
    loss=[[0.0, 1.0], [0.0, 1.0]],
    cost={"ms": [[2.0, 1.0], [2.0, 1.0]]},
    limits={"ms": (2.0, 3.0)},
    solutions=2,
    max_overlap=0.5,
    bans=[(1, 0)],
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"choice": np.array([0])}, "has 1 choices for 2 blocks"),
        ({"choice": np.array([0, 5])}, "uses operation 5 in block 1, which does not exist"),
        ({"choice": np.array([0, 0])}, "uses operation 0 in block 1, which is banned"),
        ({"objective": 0.5}, "says objective 0.5, it is 1.0"),
        ({"bound": 1.5}, "has bound 1.5 above its objective"),
        ({"cost": {"ms": 2.0}}, "says ms 2.0, it is 3.0"),
    ],
)
def test_a_false_selection_is_found(change: dict[str, Any], text: str) -> None:
    (best, _) = hant.solve(PROBLEM)
    assert any(text in line for line in violations(PROBLEM, [replace(best, **change)]))


def test_limits_overlap_pins_and_count_are_checked() -> None:
    (best, other) = hant.solve(PROBLEM)
    assert violations(PROBLEM, [best, other]) == []
    assert "shares 2 blocks" in violations(PROBLEM, [best, best])[0]
    assert "2 were asked for" in violations(PROBLEM, [best, other, other])[-1]
    assert "above the limit 2" in violations(replace(PROBLEM, limits={"ms": 2}), [best])[0]
    assert "below the limit 4" in violations(replace(PROBLEM, limits={"ms": (4, None)}), [best])[0]
    assert "pinned to 1" in violations(replace(PROBLEM, pins={0: 1}), [best])[0]


def test_sums_are_exact() -> None:
    assert exact_sum([[0.1], [0.2], [-0.1], [-0.2]], [0, 0, 0, 0]) == 0
    assert exact_sum([[1e16], [1.0], [-1e16]], [0, 0, 0]) == 1
