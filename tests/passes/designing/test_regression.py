from __future__ import annotations

import math

import numpy as np
import pytest
from hant.passes.designing.regression import fit

MOVES = [
    (d, math.log(c)) for d, c in [(0, 1), (-2, 0.5), (-2, 2), (2, 0.5), (2, 2), (1, 1.5), (-1, 0.75), (0, 2), (1, 1)]
]


def test_a_plane_is_found_exactly_with_its_offset() -> None:
    found = fit(MOVES, [3 + 0.5 * d - 2 * w for d, w in MOVES])
    assert (found.offset, found.by_depth, found.by_width) == pytest.approx((3, 0.5, -2), abs=0.01)
    assert found.r2 > 0.999
    assert found.r2_left_out > 0.999
    assert found.tau == pytest.approx(1)
    assert found.at(2, math.log(2)) == pytest.approx(3 + 1 - 2 * math.log(2), abs=0.02)


def test_the_published_form_fails_where_all_that_is_trained_shortly_is_behind() -> None:
    found = fit(MOVES, [-8 + 0.1 * d + 2 * w for d, w in MOVES])
    assert found.r2_left_out > 0.99
    assert found.r2_paper < -5


def test_the_published_form_is_about_the_masternet_and_linear_in_the_width() -> None:
    # its own block treated alike is 8 behind the MasterNet; changes are told against that block
    found = fit(MOVES, [8 + 0.1 * d + 2 * math.expm1(w) for d, w in MOVES], published=True, ahead=-8)
    assert (found.offset, found.by_depth, found.by_width) == pytest.approx((0, 0.1, 2), abs=0.02)
    assert found.at(1, math.log(1.5)) == pytest.approx(0.1 + 1, abs=0.02)
    assert found.r2_paper == pytest.approx(1)


def test_what_tells_left_out_samples_worse_than_their_mean_has_no_gradient() -> None:
    noise = np.random.default_rng(0).normal(size=9)
    found = fit(MOVES, noise.tolist())
    assert found.r2 > 0
    assert found.r2_left_out < 0
    assert (found.by_depth, found.by_width) == (0, 0)
    assert found.offset == pytest.approx(noise.mean())


def test_left_out_samples_are_told_by_fits_on_the_others() -> None:
    values = [3 + 0.5 * d - 2 * w + 0.3 * math.sin(9 * index) for index, (d, w) in enumerate(MOVES)]
    told = []
    for index, (d, w) in enumerate(MOVES):
        rest = [move for place, move in enumerate(MOVES) if place != index]
        x = np.array([[1, *move] for move in rest])
        y = np.array([value for place, value in enumerate(values) if place != index])
        # the ridge is a share of all samples, the one left out among them
        solved = np.linalg.solve(x.T @ x + np.diag([0, 9e-3, 9e-3]), x.T @ y)
        told.append(solved @ [1, d, w])
    y = np.array(values)
    expected = 1 - ((y - told) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert fit(MOVES, values).r2_left_out == pytest.approx(expected)


def test_one_depth_only_has_no_gradient_of_depth() -> None:
    found = fit([(0, w) for _, w in MOVES], [1 + 2 * w for _, w in MOVES])
    assert found.by_depth == pytest.approx(0)
    assert found.by_width == pytest.approx(2, abs=0.05)
