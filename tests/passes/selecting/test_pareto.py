"""A front over budgets from one run: nothing is trained, what cannot be met is said."""

import json
import xml.dom.minidom

import pytest
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import EvaluationRecord, WinnerRecord
from hant.passes.reporting.records import FigureRecord
from hant.passes.selecting.pareto import ParetoPass, front_svg, mark_front
from hant.passes.selecting.records import ParetoRecord, SelectionRecord
from hant.transformer.contracts.context import Context
from hant.transformer.errors import UsageError


def point(budget: str, ratio: float, loss: float) -> ParetoRecord:
    return ParetoRecord(budget=budget, target="t", choice={"a": "teacher"}, ratio=ratio, loss=loss)


def test_the_front_holds_what_nothing_else_beats() -> None:
    points = [point("1", 0.3, 2.0), point("2", 0.5, 1.0), point("3", 0.6, 1.5), point("4", 0.6, 1.0)]
    missed = ParetoRecord(budget="5", target="t", choice={}, reason="too small")
    assert [p.on_front for p in mark_front([*points, missed])] == [True, True, False, False, False]
    assert [p.on_front for p in mark_front([points[0], points[0]])] == [True, True]


def test_a_point_for_every_budget_with_json_and_drawings(profiled: Context) -> None:
    store = profiled.store
    before = store.all(CandidateRecord)
    options = ParetoPass(budgets=("0.001", "0.7", "0.9"), solutions=4)
    notes = options.run(profiled).notes
    points = {key.removeprefix("test/"): record for key, record in store.all(ParetoRecord).items()}
    assert list(points) == ["0.001", "0.7", "0.9"]
    assert points["0.001"].choice == {}
    assert "budget 0.001 cannot be met on test: the least that can be is" in points["0.001"].reason
    assert points["0.7"].ratio <= 0.7
    assert points["0.9"].ratio <= 0.9
    met = [points["0.7"], points["0.9"]]
    for one, other in (met, met[::-1]):
        equal = (other.ratio, other.loss) == (one.ratio, one.loss)
        assert one.on_front == (equal or other.ratio > one.ratio or other.loss > one.loss)
    assert not points["0.001"].on_front
    assert store.all(CandidateRecord) == before
    assert not store.all(SelectionRecord)
    assert not store.all(WinnerRecord)
    assert notes[0].startswith("budget 0.001: not met")
    content = json.loads(store.path("pareto.json").read_text())
    assert content["version"] == 1
    assert [row["budget"] for row in content["points"]] == list(options.budgets)
    assert content["figures"] == [record.file for record in store.all(FigureRecord).values()]
    for file in content["figures"]:
        xml.dom.minidom.parse(str(store.path(file)))
    evaluated = store.all(EvaluationRecord)
    options.run(profiled)
    assert {key: record for key, record in store.all(EvaluationRecord).items() if key in evaluated} == evaluated


def test_budgets_are_needed(profiled: Context) -> None:
    with pytest.raises(UsageError, match="no budgets given; give --budgets"):
        ParetoPass(budgets=()).run(profiled)


def test_estimates_are_called_so() -> None:
    estimated = point("1", 0.3, 2.0).model_copy(update={"estimated": True})
    assert "(estimated)" in front_svg({"t": [estimated]}, "title")
    assert "(measured)" in front_svg({"t": [point("1", 0.3, 2.0)]}, "title")
