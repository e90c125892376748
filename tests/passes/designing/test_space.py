from __future__ import annotations

import math

import pytest
from hant.op_library.structure import Structure
from hant.passes.designing.sampling import sampled
from hant.passes.designing.space import Box, choice_of, option_of, places, shapes_of, structure_of
from hant.transformer.errors import UsageError

DIGITS = Structure.parse("digits")


def test_each_place_has_the_basic_type_of_the_masternet_in_every_size_of_the_box() -> None:
    found = places(DIGITS, Box())
    assert [place.types for place in found] == [
        ("conv_3x3",),
        ("xx_3x3", "xx_5x5"),
        ("bl_3x3_r0.25", "bl_3x3_r0.5", "bl_5x5_r0.25", "bl_5x5_r0.5"),
        ("dw_3x3_r3", "dw_3x3_r6", "dw_5x5_r3", "dw_5x5_r6"),
        ("conv_1x1",),
    ]
    assert [len(place.options) for place in found] == [4, 2 * 3 * 5, 4 * 4 * 7, 4 * 4 * 7, 7]
    assert all(place.own in place.options for place in found)
    assert structure_of([place.own for place in found]) == DIGITS
    strides = {(place.index, option.item.stride) for place in found for option in place.options}
    assert strides == {(0, 1), (1, 2), (2, 2), (3, 2), (4, 1)}
    assert all(width % 8 == 0 for place in found for width in place.widths)


def test_all_types_may_stand_everywhere_if_asked() -> None:
    types = places(DIGITS, Box(types="all"))[2].types
    assert len(types) == 2 + 4 + 4
    assert {name[:2] for name in types} == {"xx", "bl", "dw"}


def test_what_is_no_multiple_stays_the_masternets_own() -> None:
    odd = Structure.parse("conv_3x3@13/2 xx_3x3_d1@48/2 conv_1x1@64")
    assert 13 in places(odd, Box())[0].widths


def test_moves_and_borders_are_seen_from_the_masternet() -> None:
    place = places(DIGITS, Box())[2]
    option = next(o for o in place.options if (o.depth, o.item.width) == (4, 128))
    assert place.moves(option) == pytest.approx((2, math.log(2)))
    assert place.moves(place.own) == (0, 0)
    assert place.on_border(option) == 2
    assert place.on_border(place.own) == 0


def test_a_space_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="expected types 'own' or 'all'"):
        places(DIGITS, Box(types="mine"))


def test_parts_are_called_as_in_the_network_and_have_its_shapes() -> None:
    assert list(choice_of(DIGITS).items())[1] == ("stages.0", "xx_3x3_d1@24/2")
    assert shapes_of(DIGITS, 1, (33, 32)) == [
        (1, 33, 32), (16, 33, 32), (24, 17, 16), (64, 9, 8), (64, 5, 4), (128, 5, 4),
    ]  # fmt: skip


def test_samples_begin_with_the_reference_and_hold_the_corners() -> None:
    place = places(DIGITS, Box())[2]
    found = sampled(place, "bl_5x5_r0.5", 9, seed=0)
    assert len(found) == len(set(found)) == 10
    assert (found[0].depth, found[0].item.width) == (place.own.depth, place.own.item.width)
    assert {(o.depth, o.item.width) for o in found[1:5]} == {(1, 32), (1, 128), (4, 32), (4, 128)}
    assert found == sampled(place, "bl_5x5_r0.5", 9, seed=0)
    assert found[5:] != sampled(place, "bl_5x5_r0.5", 9, seed=1)[5:]
    assert sampled(place, "bl_5x5_r0.5", 4, seed=0) == found[:5]


def test_a_convolution_has_one_depth() -> None:
    place = places(DIGITS, Box())[4]
    assert {option.depth for option in place.options} == {1}
    assert len(sampled(place, "conv_1x1", 99, seed=0)) == 7
    assert option_of(DIGITS.items[4]).type == "conv_1x1"
