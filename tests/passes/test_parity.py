"""The comparison of outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hant.passes.parity import compare


def outputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


def test_equal_outputs_are_equal() -> None:
    found = compare([outputs()], [outputs()], 1e-4)
    assert (found.max_abs_difference, found.top1_agreement, found.samples) == (0.0, 1.0, 8)


@pytest.mark.parametrize("difference", [1e-6, 1e-3, 10.0])
def test_the_largest_difference_is_found_whatever_is_tolerated(difference: float) -> None:
    other = outputs()
    other[3, 2] += difference
    assert compare([other], [outputs()], 1e-4).max_abs_difference == pytest.approx(difference, rel=0.2)


def test_classes_are_compared_row_by_row() -> None:
    other = outputs()
    other[:2] = -other[:2]
    assert compare([other], [outputs()], 1e-4).top1_agreement == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_infinitely_far(value: float) -> None:
    other = outputs()
    other[0, 0] = value
    assert compare([other], [outputs()], 1e-4).max_abs_difference == float("inf")


def test_other_shapes_are_infinitely_far() -> None:
    assert compare([outputs()[:, :4]], [outputs()], 1e-4).max_abs_difference == float("inf")


def test_the_comparison_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    compare([outputs() + 1], [outputs()], 1e-4)
    assert capfd.readouterr() == ("", "")
