"""Figures are well-formed, deterministic SVG and show what they are given."""

import re
import xml.dom.minidom

import pytest
from hant.passes.ranking.records import RankRecord
from hant.passes.reporting.figures.axes import Scale, scale_for
from hant.passes.reporting.figures.charts import Box, Series, bars, box_plot, scatter
from hant.passes.reporting.figures.diagram import Row, diagrams
from hant.passes.reporting.figures.run import FiguresPass, operation_shares
from hant.passes.reporting.records import FigureRecord
from hant.passes.searching.records import BaselineRecord
from hant.passes.selecting.records import SelectionRecord
from hant.transformer.contracts.context import Context
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def well_formed(svg: str) -> xml.dom.minidom.Document:
    tree = xml.dom.minidom.parseString(svg)
    assert tree.documentElement is not None
    assert tree.documentElement.tagName == "svg"
    assert "nan" not in re.sub(r"<text.*?</text>|<title>.*?</title>", "", svg)
    return tree


@given(st.lists(NUMBERS, max_size=20), st.booleans())
def test_scales_hold_all_values_and_have_round_ticks(values: list[float], log: bool) -> None:
    values = [abs(value) + 1e-3 for value in values] if log else values
    scale = scale_for(values, 0, 100, log)
    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)
    assert 1 <= len(scale.ticks) <= 40
    assert all(scale.low <= tick <= scale.high * (1 + 1e-9) + 1e-9 for tick in scale.ticks)


def test_a_scale_keeps_order_in_both_directions() -> None:
    assert Scale(0, 10, 0, 100)(5) == 50
    assert Scale(0, 10, 100, 0)(2.5) == 75
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)


def test_every_point_is_drawn_and_text_is_escaped() -> None:
    series = [Series("a<b", [(1, 2), (3, 4)], ["x & y", "z"]), Series("c", [(0, 1)], joined=True)]
    svg = scatter(series, ("x", "y"), "t<")
    tree = well_formed(svg)
    assert len(tree.getElementsByTagName("circle")) == 3 + 2  # with the legend
    assert "a&lt;b" in svg
    assert "x &amp; y" in svg
    assert svg == scatter(series, ("x", "y"), "t<")


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)]])
def test_few_or_equal_points_can_be_drawn(points: list[tuple[float, float]]) -> None:
    well_formed(scatter([Series("a", points)], ("x", "y"), "t"))


def test_bars_and_boxes_show_their_values() -> None:
    svg = bars({"0.45": {"teacher": 0.5, "identity": 0.25}, "0.6": {"teacher": 1.0}}, "share", "t")
    well_formed(svg)
    assert "0.45 teacher: 0.5" in svg
    svg = box_plot([Box("0.45", [1, 2, 3, 4], {"ilp": 0.5}), Box("0.6", [], {"greedy": 1.0})], ("b", "l"), "t", True)
    well_formed(svg)
    assert "4 values: 1 .. 2.5 .. 4" in svg
    assert "ilp: 0.5" in svg


def test_diagrams_have_a_box_for_each_block_of_each_architecture() -> None:
    rows = [Row("one", "8x4x4 -> 8x4x4"), Row("two", "8x4x4 -> 16x2x2", downsamples=True)]
    svg = diagrams(rows, {"a": {"one": "identity", "two": "cb_stack_3x3_ex0.5"}, "b": {"one": "teacher"}}, "t")
    tree = well_formed(svg)
    assert len(tree.getElementsByTagName("rect")) == 1 + 4
    assert "two: cb_stack_3x3_ex0.5, 8x4x4 -&gt; 16x2x2" in svg


def test_shares_add_up_to_one_the_most_frequent_first() -> None:
    shares = operation_shares([{"a": "teacher", "b": "identity"}, {"a": "teacher", "b": "teacher"}])
    assert shares == {"teacher": 0.75, "identity": 0.25}


def test_the_pass_draws_what_the_run_has(scored: Context) -> None:
    store = scored.store
    choice = dict.fromkeys((block.name for block in scored.teacher.replaceable), "teacher")
    for index in range(3):
        selection = SelectionRecord(index=index, choice=choice, objective=index, bound=0, cost={}, predicted_ms=1)
        store.put(f"{index:03d}", selection)
    FiguresPass().run(scored)
    assert set(store.all(FigureRecord)) == {"operations", "architectures"}
    for index in range(3):
        rank = RankRecord(index=index, loss=index + 0.5, accuracy=50.0, samples=10, complete=index < 2)
        store.put(f"{index:03d}", rank)
    record = BaselineRecord(
        method="random", budget="0.45", choice=choice, objective=1, cost={}, limits={}, loss=1.0, accuracy=50.0,
        samples=10, networks=3, losses=(1.0, 2.0, 3.0), seconds=1.0,
    )  # fmt: skip
    store.put("random/0.45", record)
    FiguresPass().run(scored)
    figures = store.all(FigureRecord)
    assert set(figures) == {"operations", "architectures", "ranking", "searches"}
    for figure in figures.values():
        well_formed(store.path(figure.file).read_text())
    assert "stopped early" in store.path("figures/ranking.svg").read_text()
