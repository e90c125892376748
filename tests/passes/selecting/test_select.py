"""Selection on a small run with latencies measured in ONNX Runtime: the promise is about the measured network."""

import itertools
import re

import pytest
from hant.backends.measuring.statistics import summarise
from hant.passes.latency.measure import measure_network
from hant.passes.latency.predict import network_key
from hant.passes.latency.records import CalibrationRecord, NetworkLatencyRecord
from hant.passes.ranking.records import RankRecord
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass, fastest_limit, further_limits, margin, settle, used_share
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.errors import InfeasibleError


def whole(context: Context, name: str, choice: dict[str, str]) -> float:
    """The cost of the whole network with ``choice``."""
    table, graph = search_table(context.store, context.teacher), context.teacher
    teacher = {"params": graph.parameters, "macs": graph.macs, "memory": 4 * graph.parameters}[name]
    return teacher - table.total(name, table.teacher()) + table.total(name, choice)


def test_the_first_selection_was_measured_inside_the_budget_and_all_are_diverse(profiled: Context) -> None:
    options = SelectPass(budget=Budget.parse("0.8"), solutions=5)
    profiled.store.put("000", RankRecord(index=0, loss=0.0, accuracy=0.0, samples=0))
    options.run(profiled)
    records = list(profiled.store.all(SelectionRecord).values())
    before = profiled.store.count("network_latency")
    assert used_share(measure_network(profiled, records[0].choice), options.budget) <= 1
    assert profiled.store.count("network_latency") == before
    assert [record.index for record in records] == list(range(len(records)))
    assert records[0].objective == min(record.objective for record in records)
    for one, other in itertools.combinations(records, 2):
        shared = sum(one.choice[block] == other.choice[block] for block in one.choice)
        assert shared <= int(0.7 * len(one.choice))
    assert all(record.bound <= record.objective + 1e-9 for record in records)
    assert profiled.store.count("rank") == 0  # results for other selections are forgotten


def test_measured_networks_are_kept_and_not_measured_again(profiled: Context) -> None:
    table = search_table(profiled.store, profiled.teacher)
    options = SelectPass(budget=Budget.parse("0.8"))
    limit, notes = settle(profiled, table, options)
    measured = profiled.store.all(NetworkLatencyRecord)
    # a network that was measured for another purpose, such as the winner by rank, does not change the way
    other = table.teacher() | {table.blocks[0]: "identity"}
    measure_network(profiled, other)
    assert settle(profiled, table, options) == (limit, notes)
    assert measured.items() <= profiled.store.all(NetworkLatencyRecord).items()
    assert any(
        re.fullmatch(r"measured at 0\.\d+ of the teacher, the budget is 0.800 less \d\.\d % for noise", n)
        for n in notes
    )


def test_a_budget_that_cannot_be_met_names_the_least_that_was_measured(profiled: Context) -> None:
    with pytest.raises(
        InfeasibleError, match=r"budget 0\.001 cannot be met on test: the least that can be is .* ms"
    ) as e:
        SelectPass(budget=Budget.parse("0.001")).run(profiled)
    assert e.value.exit_code == 3
    assert "(measured); give a larger --budget" in str(e.value)
    assert 0.001 < e.value.least["ratio"] < 1
    assert profiled.store.count("selection") == 0


def test_a_network_that_profiling_measured_inside_the_budget_proves_that_it_can_be_met(profiled: Context) -> None:
    store, table = profiled.store, search_table(profiled.store, profiled.teacher)
    calibration = store.get(CalibrationRecord, "calibration")
    assert calibration is not None
    records = [(key, store.get(NetworkLatencyRecord, key)) for key in calibration.networks]
    key, record = next((key, record) for key, record in records if record is not None and record.selection)
    slow = record.model_copy(update={"timing": record.teacher, "selection": table.choice(table.fastest())})
    store.put(network_key(slow.selection), slow)  # as if the table had named the wrong network
    least = record.teacher.model_copy(update={"ms": record.teacher.ms / 100})
    store.put(key, record.model_copy(update={"timing": least}))
    limit = fastest_limit(profiled, table, Budget.parse("0.02"))
    assert limit == pytest.approx(table.total("ms", table.teacher() | record.selection))
    with pytest.raises(InfeasibleError) as e:
        fastest_limit(profiled, table, Budget.parse("0.001"))
    assert e.value.least["ratio"] == pytest.approx(0.01)


@pytest.mark.parametrize(("name", "limit"), [("params", "params=60%"), ("macs", "macs=50%"), ("memory", "memory=12k")])
def test_further_limits_hold_of_the_whole_network(profiled: Context, name: str, limit: str) -> None:
    budget = Budget.parse("1.0", (limit,))
    SelectPass(budget=budget, solutions=4).run(profiled)
    allowed = budget.limits[0][1].absolute(
        whole(profiled, name, search_table(profiled.store, profiled.teacher).teacher())
    )
    for record in profiled.store.all(SelectionRecord).values():
        assert whole(profiled, name, record.choice) <= allowed + 1e-6


def test_a_further_limit_that_cannot_be_met_is_told_in_the_users_unit(profiled: Context) -> None:
    table, graph = search_table(profiled.store, profiled.teacher), profiled.teacher
    smallest = {block: ops[row.argmin()] for block, ops, row in
                zip(table.blocks, table.operations, table.cost["params"], strict=True)}  # fmt: skip
    least = whole(profiled, "params", smallest)
    with pytest.raises(InfeasibleError, match=rf"limit params=1% \({0.01 * graph.parameters:.6g}\) cannot be met") as e:
        SelectPass(budget=Budget.parse("1.0", ("params=1%",))).run(profiled)
    assert f"the least that can be is {least:.6g}" in str(e.value)
    assert e.value.least == {"params": least}


def test_limits_are_taken_off_what_is_outside_of_the_blocks(profiled: Context) -> None:
    table, graph = search_table(profiled.store, profiled.teacher), profiled.teacher
    limits = further_limits(Budget.parse("0.5", ("params=100%", "macs=100%")), table, graph)
    assert limits["params"] == pytest.approx(table.total("params", table.teacher()))
    assert limits["macs"] == pytest.approx(table.total("macs", table.teacher()))


@pytest.mark.parametrize(("spread", "least", "most"), [(0.001, 0.015, 0.015), (0.03, 0.016, 0.03), (0.5, 0.05, 0.05)])
def test_the_margin_is_what_the_measurement_may_be_wrong_by(spread: float, least: float, most: float) -> None:
    """At least 1.5 %, at most 5 %: a network known less well was measured on a busy machine."""
    wobble = [1 + spread * (i % 7 - 3) / 3 for i in range(28)]
    record = NetworkLatencyRecord(
        selection={}, timing=summarise([2.0 * w for w in wobble], True), teacher=summarise([4.0] * 28, True),
        provenance={},
    )  # fmt: skip
    for text in ("0.6", "2.4ms"):
        budget = Budget.parse(text)
        assert least <= margin(record, budget) <= most
        assert used_share(record, budget) == pytest.approx(2.0 / (2.4 * (1 - margin(record, budget))))
