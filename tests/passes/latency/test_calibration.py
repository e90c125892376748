"""A planted table and planted whole networks: what was planted is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hant.backends.measuring.statistics import summarise
from hant.op_library.pools import operation
from hant.passes.candidates.candidates import CandidatesPass, latency_key
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.calibration import NETWORKS, calibrate, calibration_networks
from hant.passes.latency.kits.kit import networks_to_measure
from hant.passes.latency.predict import network_key, predict, refit
from hant.passes.latency.records import CalibrationRecord, LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.table import fastest, operation_ms
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]
POOL = "teacher,identity,cb_stack_3x3_ex0.25,cb_stack_3x3_ex0.5,cb_res_1x1,cb_res_3x3,efn_3x3_e6_se1.00"
TEACHER_MS = 8.0
OWN = {"one": 2.0, "two": 1.5, "three": 2.5}


def listed(context: Context) -> None:
    """List the operations; the blocks' own have the MACs of two 3x3 convolutions."""
    CandidatesPass().run(context)
    for key, record in context.store.all(OperationRecord).items():
        if record.operation == "teacher":
            one = context.store.get(OperationRecord, f"{record.block}/cb_res_3x3")
            assert one is not None
            context.store.put(key, record.model_copy(update={"macs": 2 * one.macs}))


def truth(context: Context, choice: dict[str, str], slope: float, factor: float) -> float:
    """Return the ms of a network where ``two``, which cannot be taken out, costs ``factor`` more than its row."""
    rows, facts = context.store.all(LatencyRecord), context.store.all(OperationRecord)
    saved = 0.0
    for block, name in choice.items():
        if name != "teacher":
            saved += OWN[block] - rows[facts[f"{block}/{name}"].latency_key].timing.ms
            saved += factor * OWN[block] if block == "two" else 0.0
    return TEACHER_MS - slope * saved


def plant(context: Context, slope: float, factor: float) -> None:
    """Fill the table, and measure the teacher, the fastest and the calibration networks."""
    store, chance = context.store, random.Random(0)
    listed(context)
    for record in store.all(OperationRecord).values():
        if record.fits:
            share = {"teacher": 1.0, "identity": 0.0}.get(record.operation, chance.uniform(0.2, 0.8))
            timing = summarise([share * OWN[record.block]], True)
            row = LatencyRecord(
                operation=record.operation, input="", output="", target="t", timing=timing, provenance={}
            )
            store.put(record.latency_key, row)
    for choice in [{}, fastest(store), *calibration_networks(store)]:
        timing = summarise([truth(context, choice, slope, factor)] * 5, True)
        teacher = summarise([TEACHER_MS] * 5, True)
        network = NetworkLatencyRecord(selection=choice, timing=timing, teacher=teacher, provenance={})
        store.put(network_key(choice), network)


@pytest.mark.parametrize(("slope", "factor"), [(1.0, 0.0), (1.15, 0.5), (0.9, 1.0), (1.0, -0.3)])
def test_slope_and_factor_are_found(make_context: MakeContext, tmp_path: Path, slope: float, factor: float) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, POOL)
        plant(context, slope, factor)
        calibration = calibrate(context)
        own = latency_key(context.teacher.block("two"), operation("teacher"), context.target)
        assert set(calibration.added) == {own}
        assert calibration.added[own] == pytest.approx(factor * OWN["two"], abs=0.12)
        assert operation_ms(store)[own] == OWN["two"] + calibration.added[own]
        refit(store)
        chance = random.Random(1)
        names = {
            block: [r.operation for r in store.all(OperationRecord).values() if r.block == block and r.fits]
            for block in OWN
        }
        for _ in range(20):
            choice = {block: chance.choice(options) for block, options in names.items()}
            assert predict(store, choice) == pytest.approx(truth(context, choice, slope, factor), abs=0.2)


def test_nothing_is_added_where_nothing_is_measured(make_context: MakeContext, tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, POOL)
        plant(context, 1.15, 0.5)
        for key, record in store.all(NetworkLatencyRecord).items():
            timing = record.timing.model_copy(update={"estimated": True})
            store.put(key, record.model_copy(update={"timing": timing}))
        assert calibrate(context) == CalibrationRecord(added={}, networks=())


def test_networks_are_random_no_heavier_than_the_teacher_and_in_the_kit(
    make_context: MakeContext, tmp_path: Path
) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, POOL)
        listed(context)
        choices = calibration_networks(store)
        assert choices == calibration_networks(store)
        assert len({network_key(choice) for choice in choices}) == NETWORKS
        facts = store.all(OperationRecord)
        for choice in choices:
            assert "teacher" not in choice.values()
            assert all(facts[f"{b}/{name}"].macs <= facts[f"{b}/teacher"].macs for b, name in choice.items())
        heavy = [r for r in facts.values() if r.macs > facts[f"{r.block}/teacher"].macs]
        assert heavy, "else the pool shows nothing"
        wanted = networks_to_measure(store, complete=False)
        assert all(choice in wanted for choice in choices)
        assert np.mean([len(choice) for choice in choices]) > 1
