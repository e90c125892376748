"""Medians, trimmed means and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hant.backends.measuring.statistics import median_interval, pooled, ratio_interval, ridge, summarise, trimmed_mean
from hant.transformer.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

samples = st.lists(st.floats(0.01, 1e3), min_size=1, max_size=30)


@given(samples)
def test_the_interval_holds_the_median_and_stays_inside_the_samples(values: list[float]) -> None:
    interval = median_interval(values)
    assert min(values) <= interval.low <= interval.value <= interval.high <= max(values)
    assert interval == median_interval(values)


@given(samples, st.floats(0.1, 10))
def test_the_interval_scales_with_the_unit(values: list[float], factor: float) -> None:
    one, other = median_interval(values), median_interval([factor * value for value in values])
    assert (other.low, other.high) == pytest.approx((factor * one.low, factor * one.high))


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        interval = median_interval(chance.lognormal(0, 0.1, 25).tolist(), confidence=0.9)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.9 <= covered / 300 <= 0.99


def test_few_samples_are_covered_by_the_whole_range() -> None:
    interval = median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert (interval.low, interval.high) == (1.0, 6.0)


def test_the_trimmed_mean_leaves_out_a_tenth_at_each_end() -> None:
    assert trimmed_mean([1000.0, *range(1, 9), -1000.0]) == pytest.approx(4.5)
    assert trimmed_mean([1.0, 2.0, 3.0]) == pytest.approx(2.0)


def test_the_ratio_is_taken_round_by_round() -> None:
    slow = [1.0, 10.0, 1.0, 10.0, 100.0]
    ratio = ratio_interval(summarise([2 * value for value in slow], True), summarise(slow, True))
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio.relative_width == pytest.approx(0.0)


def test_timings_of_different_rounds_are_not_compared() -> None:
    with pytest.raises(UsageError, match=r"cannot compare timings of 2 and 3 rounds; time both together"):
        ratio_interval(summarise([1.0, 1.0], True), summarise([1.0] * 3, True))


def test_a_summary_keeps_the_raw_samples() -> None:
    timing = summarise([3.0, 1.0, 2.0], converged=False)
    assert (timing.ms, timing.samples, timing.converged) == (2.0, (3.0, 1.0, 2.0), False)


def test_ridge_is_least_squares_without_pull_and_the_wished_for_with_much() -> None:
    chance = np.random.default_rng(0)
    x, y, weight = chance.normal(size=(20, 3)), chance.normal(size=20), chance.uniform(0.1, 1, 20)
    root = np.sqrt(weight)
    exact = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
    toward = (1.0, -2.0, 3.0)
    assert ridge(x, y, toward, (0, 0, 0), weight) == pytest.approx(exact)
    assert ridge(x, y, toward, (1e9, 1e9, 1e9), weight) == pytest.approx(toward, abs=1e-6)


def test_pooled_timings_are_one_of_all_samples() -> None:
    first, second = summarise([1.0, 2.0], True), summarise([3.0, 4.0, 5.0], False)
    assert pooled([first]) == first
    both = pooled([first, second])
    assert both == summarise([1.0, 2.0, 3.0, 4.0, 5.0], False)
