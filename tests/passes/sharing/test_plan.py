"""What each step of a shared training runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hant.passes.sharing.plan import Plan
from hant.passes.sharing.schedule import SCHEDULES, Schedule, adjusted

BLOCKS = tuple((name, (("identity", 0), ("slice_w0.5", 50), ("teacher", 100))) for name in "abcdef")
SMALL = tuple((name, "identity") for name, _ in BLOCKS)
HALF = tuple((name, "slice_w0.5") for name, _ in BLOCKS)


def plan(schedule: Schedule, *, any_: bool = True, draw: str = "budget", total: int = 1000) -> Plan:
    return Plan(
        schedule=schedule, total=total, front=(HALF, SMALL), operations=BLOCKS, outside=60, any=any_, draw=draw, seed=3
    )


def test_deps_trains_the_full_network_alone_then_full_least_and_two_with_rising_weight() -> None:
    made = plan(SCHEDULES["deps"])
    for step in (0, 499):
        (only,) = made.turns(step)
        assert (only.full, only.weight, dict(only.choice)) == (True, 1.0, {})
    full, least, *drawn = made.turns(500)
    assert (full.full, full.weight) == (True, 1.0)
    assert dict(least.choice) == dict(SMALL)
    assert len(drawn) == 2
    weights = [made.turns(step)[1].weight for step in range(500, 1000)]
    assert weights[0] == pytest.approx(1 / 20)  # 4 % of the 500 steps
    assert weights == sorted(weights)
    assert np.diff(weights[:20]) == pytest.approx(np.full(19, 1 / 20))
    assert weights[19:] == [1.0] * 481


def test_bignas_has_no_delay_and_no_ramp_and_rss_one_random_student_a_step() -> None:
    turns = plan(SCHEDULES["sandwich"]).turns(0)
    assert [(turn.full, turn.weight) for turn in turns] == [(True, 1.0), (False, 1.0), (False, 1.0), (False, 1.0)]
    assert [turn.full for turn in plan(SCHEDULES["random"]).turns(7)] == [False]


def test_ofas_order_takes_depth_before_width() -> None:
    made = plan(SCHEDULES["progressive"])
    used = [{name for turn in made.turns(step) for name in turn.choice.values()} for step in range(1000)]
    assert all(names == set() for names in used[:400])
    assert set().union(*used[400:650]) == {"teacher", "identity"}
    assert set().union(*used[650:]) == {"teacher", "identity", "slice_w0.5"}
    assert [len(made.turns(step)) for step in (399, 400, 649, 650)] == [1, 2, 2, 4]


def test_students_of_the_front_come_in_turn() -> None:
    made = plan(SCHEDULES["align"], any_=False)
    seen = Counter(tuple(turn.choice.items()) for step in range(10) for turn in made.turns(step))
    assert seen == {HALF: 10, SMALL: 10}
    one = replace(made, schedule=adjusted(made.schedule, draws=1))
    assert [dict(one.turns(step)[0].choice) for step in range(3)] == [dict(HALF), dict(SMALL), dict(HALF)]


def test_draws_depend_on_the_step_alone_and_by_budget_reach_both_ends() -> None:
    even, plain = (plan(SCHEDULES["random"], draw=draw) for draw in ("budget", "uniform"))
    again = plan(SCHEDULES["random"])
    assert [again.turns(step) for step in (900, 5)] == [even.turns(step) for step in (900, 5)]
    costs = {
        name: np.array([made.macs(made.turns(step)[0].choice) for step in range(400)]) / made.macs({})
        for name, made in (("budget", even), ("uniform", plain))
    }
    assert (costs["budget"] < 0.25).mean() > 0.1 > (costs["uniform"] < 0.25).mean()
    assert (costs["budget"] > 0.85).mean() > 0.08 > (costs["uniform"] > 0.85).mean()
    assert np.histogram(costs["budget"], bins=4, range=(0.09, 1.0))[0].min() > 60


def test_cost_is_counted_in_passes_of_the_full_network() -> None:
    made = plan(SCHEDULES["align"], any_=False)
    assert made.passes(10) == pytest.approx(10 * (1 / 3 + (360 + 60) / 660))
    deps = plan(adjusted(SCHEDULES["deps"], draws=0))
    assert deps.passes(600) == pytest.approx(600 + 100 * 60 / 660)


def test_options_change_a_schedule_as_said() -> None:
    deps = SCHEDULES["deps"]
    assert [phase.share for phase in adjusted(deps, delay=0.25).phases] == [0.25, 0.75]
    assert adjusted(deps, delay=0.0).phases == (replace(deps.phases[1], share=1.0),)
    assert adjusted(SCHEDULES["sandwich"], delay=0.5, ramp=0.04).phases[0].draws == 0
    changed = adjusted(deps, ramp=0.0, teach="teacher", labels=1.0)
    assert (changed.ramp, changed.teach, changed.labels) == (0.0, "teacher", 1.0)
    assert adjusted(deps) == deps
