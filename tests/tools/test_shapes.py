from __future__ import annotations

import pytest
from hant.transformer.errors import UsageError
from hant.transformer.tools.shapes import examples, parse_shape, text


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ("3x224x224", (3, 224, 224)),
        ("3, 32, 32", (3, 32, 32)),
        ("[3,32,32]", (3, 32, 32)),
        ("10", (10,)),
        ("1x3x224x224", (3, 224, 224)),
        ("x:1x3x224x224", (3, 224, 224)),
        ("x:[1,3,224,224]", (3, 224, 224)),
        ("input.1:8x10", (10,)),
        (" 3X32X32 ", (3, 32, 32)),
    ],
)
def test_a_shape_is_read(given: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(given) == shape


@pytest.mark.parametrize("given", ["", "3x", "axb", "3x0x3", "3x-1", "x:", "x:3", ":1x3", "3*4", "1.5x2"])
def test_what_is_no_shape_is_told(given: str) -> None:
    with pytest.raises(UsageError, match=r"cannot read input shape .*; expected 3x224x224, x:1x3x224x224 or x:\[1,3"):
        parse_shape(given)


def test_examples_have_two_rows_and_are_the_same_each_time() -> None:
    (first,), (second,) = examples([(3, 4, 4)]), examples([(3, 4, 4)])
    assert first.shape == (2, 3, 4, 4)
    assert first.equal(second)
    assert text(first.shape[1:]) == "3x4x4"
