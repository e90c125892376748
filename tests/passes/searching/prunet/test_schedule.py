"""Who leaves a layer and when (PruNet sections 3.2.2 and 3.2.3)."""

from __future__ import annotations

import pytest
from hant.passes.searching.prunet.schedule import SKIP, Layer, pruned, threshold


def test_the_threshold_rises_from_below_an_even_share_to_above_one_half() -> None:
    assert threshold(4, 0.0) == pytest.approx(0.15)
    assert threshold(4, 1.0) == pytest.approx(0.55)
    assert threshold(4, 0.5) == pytest.approx(0.35)
    assert threshold(1, 0.0) == threshold(2, 0.0) < 0.5  # a layer of one operation has a contest with its skip


def test_the_least_probable_goes_first_and_the_others_gain() -> None:
    layer = Layer((0, 1, 2), skips=False)
    # probabilities 0.66, 0.24, 0.09; without the last 0.73, 0.27
    assert pruned(layer, (0.2, 0.1, 0.0), 0.0, 3).alive == (0, 1, 2)  # t = 0.2
    assert pruned(layer, (2.0, 1.0, 0.0), 0.1, 3).alive == (0, 1)  # t = 0.235
    assert pruned(layer, (2.0, 1.0, 0.0), 0.3, 3).alive == (0,)  # t = 0.305


def test_the_best_is_never_removed() -> None:
    assert pruned(Layer((0, 1), skips=False), (0.0, 0.0), 1.0, 2).alive == (1,)
    assert pruned(Layer((4,), skips=False), (-9.0,), 1.0, 2).alive == (4,)


def test_a_skip_takes_the_place_of_the_second_last_once() -> None:
    contest = pruned(Layer((0, 1), skips=True), (3.0, 0.0), 0.5, 2)
    assert contest == Layer((0, SKIP), skips=False)
    assert contest.contest
    assert pruned(contest, (0.0, 0.0), 0.5, 2) == contest
    assert pruned(contest, (-2.0, 1.0), 0.5, 2).alive == (SKIP,)


def test_a_layer_of_one_operation_begins_with_the_contest() -> None:
    assert pruned(Layer((0,), skips=True), (0.0,), 0.02, 3).alive == (0, SKIP)
    assert pruned(Layer((0,), skips=False), (0.0,), 0.02, 3).alive == (0,)


def test_the_contest_begins_in_time() -> None:
    layer, even = Layer((0, 1, 2), skips=True), (0.3, 0.2, 0.0)
    assert pruned(layer, even, 0.1, 3).alive == (0, 1, 2)
    assert pruned(layer, even, 0.85, 3).alive == (0, SKIP)
