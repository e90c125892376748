from __future__ import annotations

from hant.op_library.pools import operation
from hant.passes.pretraining.unit import Pair
from hant.passes.pretraining.units import Cut, units

NAMES = ("cb_res_1x1", "cb_res_3x3", "cb_res_5x5", "cb_res_7x7", "identity", "dbb_1x1")
PAIRS: list[Pair] = [(block, operation(name)) for block in ("one", "two") for name in NAMES]


def test_a_unit_holds_a_few_operations_on_all_blocks() -> None:
    found = list(units([(pair, 0) for pair in PAIRS], 9, Cut(in_flight=4)))
    assert [len(unit.pairs) for unit in found] == [8, 4]
    assert {(unit.start, unit.stop) for unit in found} == {(0, 9)}
    assert sorted(map(str, (p for unit in found for p in unit.pairs))) == sorted(map(str, PAIRS))


def test_pairs_that_are_not_equally_far_are_in_different_units() -> None:
    found = list(units([(PAIRS[0], 0), (PAIRS[1], 5), (PAIRS[2], 0)], 9, Cut(in_flight=8)))
    assert [(unit.start, len(unit.pairs)) for unit in found] == [(0, 2), (5, 1)]


def test_many_slots_get_smaller_units() -> None:
    assert len(list(units([(pair, 0) for pair in PAIRS], 9, Cut(in_flight=8, slots=2)))) == 6
