"""The comparison of outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hant.passes.delivering.parity import Difference, agreement, as_outputs, compare
from hant.transformer.errors import UnverifiedError
from hant.transformer.tools.nested import tensors

FAR = Difference(float("inf"), float("inf"))


def outputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


def test_equal_outputs_are_equal() -> None:
    assert compare([outputs()], [outputs()], 1e-4) == Difference(0.0, 0.0)
    assert agreement(outputs(), outputs()) == 1.0


@pytest.mark.parametrize("difference", [1e-6, 1e-3, 10.0])
def test_the_largest_difference_is_found_whatever_is_tolerated(difference: float) -> None:
    other = outputs()
    other[3, 2] += difference
    assert compare([other], [outputs()], 1e-4).absolute == pytest.approx(difference, rel=0.2)


def test_classes_are_compared_row_by_row() -> None:
    other = outputs()
    other[:2] = -other[:2]
    assert agreement(other, outputs()) == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_infinitely_far(value: float) -> None:
    other = outputs()
    other[0, 0] = value
    assert compare([other, outputs()], [outputs(), outputs()], 1e-4) == FAR


def test_other_shapes_are_infinitely_far() -> None:
    assert compare([outputs()[:, :4]], [outputs()], 1e-4) == FAR


def test_several_outputs_of_any_type_are_compared_each_with_its_own() -> None:
    counted, marked, single = np.arange(6).reshape(2, 3), np.array([True, False]), np.array(0.5, np.float32)
    assert compare([outputs(), counted, marked, single], [outputs(), counted, marked, single], 1e-4) == Difference(
        0.0, 0.0
    )
    assert compare([outputs(), counted], [outputs(), counted + 2], 1e-4) == Difference(2.0, 2.0 / 7)
    assert compare([marked, outputs()], [~marked, outputs()], 1e-4) == Difference(1.0, 1.0)


def test_a_difference_is_scaled_by_its_own_output_where_that_is_large() -> None:
    boxes, scores = 800 * np.ones((4, 4), np.float32), np.full((4, 2), 0.5, np.float32)
    found = compare([boxes + 0.05, scores + 2e-4], [boxes, scores], 1e-4)
    assert found.absolute == pytest.approx(0.05, rel=0.01)
    assert found.scaled == pytest.approx(2e-4, rel=0.01), "small outputs are not judged by the large ones"
    assert compare([boxes + 0.05, scores], [boxes, scores], 1e-4).scaled == pytest.approx(0.05 / 800, rel=0.01)


def test_what_a_runtime_returns_takes_the_form_of_the_networks_outputs() -> None:
    like = {"b": torch.zeros(1, 2), "a": [torch.zeros(1, dtype=torch.int64), (torch.zeros(1), "words")], "none": None}
    arrays = [np.ones((3, 2), np.float32), np.full(3, 4.0, np.float32), np.full(3, 5.0, np.float32)]
    found = as_outputs(arrays, like)
    assert list(found) == ["b", "a", "none"]
    assert [tensor.tolist() for tensor in tensors(found)] == [[[1, 1]] * 3, [4] * 3, [5] * 3]
    assert found["a"][0].dtype == torch.int64
    assert (found["a"][1][1], found["none"]) == ("words", None)


def test_another_number_of_outputs_is_told() -> None:
    with pytest.raises(
        UnverifiedError, match="the runtime returns 1 tensors, the network in PyTorch 2: outputs cannot"
    ):
        as_outputs([outputs()], [torch.zeros(8, 5), torch.zeros(8)])


def test_the_comparison_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    compare([outputs() + 1], [outputs()], 1e-4)
    assert capfd.readouterr() == ("", "")
