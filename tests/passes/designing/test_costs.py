from __future__ import annotations

import numpy as np
import pytest
from hant.op_library.structure import Structure
from hant.passes.designing.chain import ChainProblem, sums
from hant.passes.designing.costs import Row, cost_table, fitted, parts_ms, rows
from hant.passes.designing.records import CostRecord
from hant.passes.designing.space import Box, places

MASTER = Structure.parse("conv_3x3@8 xx_3x3_d2@16/2 dw_3x3_r3_d1@16 conv_1x1@32")
PLACES = places(MASTER, Box(kernels=(3,), expansions=(3.0,)))
ENTRY, BODY = (0.01, 1e-4, 2e-4, 3e-6, 4e-6), (0.005, 1e-4, 5e-6)


def ms(row: Row) -> float:
    """What a part takes by known coefficients."""
    first = np.array([1, row.before, row.after, row.before * row.after, row.after**2]) @ np.array(ENTRY)
    more = np.array([1, row.after, row.after**2]) @ np.array(BODY)
    return float(first + (row.depth - 1) * more)


def test_coefficients_are_found_from_the_rows_that_are_timed() -> None:
    place = PLACES[1]
    found = rows(place, (8, 16, 24), "xx_3x3")
    assert {(row.before, row.after) for row in found if row.depth == 1} == {
        (b, a) for b in (8, 16, 24) for a in (8, 16, 32)
    }
    assert [(row.before, row.after) for row in found if row.depth == 2] == [(16, 8), (16, 16), (16, 32)]
    entry, body, error = fitted([(row, ms(row)) for row in found])
    table = cost_table(place, (8, 24), {"xx_3x3": (entry, body)})
    for column, option in enumerate(place.options):
        for row, before in enumerate((8, 24)):
            known = ms(Row("xx_3x3", option.depth, before, option.item.width))
            assert table[row, column] == pytest.approx(known, rel=0.02)
    assert error < 0.01


def test_no_part_takes_less_than_nothing_whatever_the_noise() -> None:
    chance = np.random.default_rng(0)
    found = rows(PLACES[1], (8, 16, 24), "xx_3x3")
    entry, body, error = fitted([(row, ms(row) * chance.uniform(0.2, 1.8)) for row in found])
    assert min(entry) >= 0
    assert min(body) >= 0
    assert error > 0.1


def test_a_convolution_has_no_further_blocks() -> None:
    found = rows(PLACES[0], (3,), "conv_3x3")
    assert {row.depth for row in found} == {1}
    assert fitted([(row, ms(row)) for row in found])[1] == ()


def test_the_parts_of_a_structure_add_up_to_what_the_chain_says() -> None:
    costs: dict[str, CostRecord] = {}
    tables: list[np.ndarray] = []
    before: tuple[int, ...] = (3,)
    for place in PLACES:
        kind = place.own.type
        body = BODY if place.own.item.superblock else ()
        entry = tuple(value * (1 + place.index) for value in ENTRY)
        costs[f"{place.index}/{kind}"] = CostRecord(
            place=place.index, type=kind, entry=entry, body=body, rows=9, error=0.0
        )
        tables.append(cost_table(place, before, {kind: (entry, body)}))
        before = place.widths
    exits = [np.array([place.widths.index(o.item.width) for o in place.options]) for place in PLACES]
    problem = ChainProblem([np.zeros(len(place.options)) for place in PLACES], exits, tables, 1.0)
    own = [place.options.index(place.own) for place in PLACES]
    assert sum(parts_ms(MASTER, 3, costs)) == pytest.approx(sums(problem, own)[1])
