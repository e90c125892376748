"""Predict the latency of a whole network from the lookup table.

HANT appendix A.1: the table's sum leaves out input and output stems and differs from the real latency. Here
``fixed_ms + slope * sum`` is fitted through the teacher, which is measured, and further whole networks as they are
measured. The slope takes up what operations do to each other beyond their neighbours (caches, fusion).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..op_library.pools import operation
from ..transformer.contracts.backend import Runner
from ..transformer.contracts.candidate import build_candidate
from ..transformer.contracts.context import Context
from ..transformer.contracts.lookup import operation_ms
from ..transformer.contracts.records import (
    CalibrationRecord,
    LatencyModelRecord,
    NetworkLatencyRecord,
    OperationRecord,
    WinnerRecord,
)
from ..transformer.contracts.statistics import ratio_interval, ridge
from ..transformer.contracts.store import RunStore
from ..transformer.contracts.target import Target
from ..transformer.contracts.timing import Timing
from ..transformer.errors import CaptureError, UnverifiedError, UsageError
from ..transformer.ir.graph import Graph
from .candidates import latency_key
from .provenance import absence, here
from .workbench import Workbench, network_inputs

Floats = NDArray[np.float64]
_USUAL = 0.3
"""Ratio of the teacher's latency below which networks count less in the fit."""
_RIDGE = (0.05, 1.0)
"""How strongly slope and offset are pulled to 1 and 0: as one network that saves the root of the first share, and one
that saves nothing."""


def predict(store: RunStore, choice: Mapping[str, str]) -> float:
    """Return the predicted latency (ms) of the network with these operations (block -> operation)."""
    model = _model(store)
    if network_key(choice) == "teacher":
        return model.teacher_ms
    return model.fixed_ms + model.slope * table_sum(store, choice)


def surprise(store: RunStore, record: NetworkLatencyRecord) -> float:
    """Return a network's measured over its predicted latency, both relative to the teacher.

    Milliseconds themselves do not compare: the machine may have been busier than when the model was fitted, and the
    teacher that was timed beside the network as much slower.
    """
    model = _model(store)
    return record.timing.ms / record.teacher.ms * model.teacher_ms / predict(store, record.selection)


def predicted_ratio(store: RunStore) -> float:
    """Return predicted student over measured teacher, as known when the winner was chosen; 0 where it was not."""
    winner = store.get(WinnerRecord, "winner")
    if winner is None:
        return 0.0
    model = store.get(LatencyModelRecord, "model")
    return winner.predicted_ms / (winner.teacher_ms if model is None else model.teacher_ms)


def split_up(store: RunStore, choice: Mapping[str, str], teacher_ms: float, ratio: float) -> tuple[float, float, float]:
    """Return (scale, the teacher's rest, the student's rest): how a network's latency (ms) divides over its blocks.

    ``teacher_ms`` is what the teacher takes now, ``ratio`` what the student of this ``choice`` is predicted to take of
    it. A row of the table counts ``scale`` ms for each of its own; rows and rest add up to the whole. Rows that alone
    are more than the teacher are scaled down to it, so a rest may be below zero: together they cost less than alone.
    """
    model = _model(store)
    full, chosen = table_sums(store, [{}, choice]).tolist()
    slope = min(model.slope, model.teacher_ms / full) if full > 0 else model.slope
    scale = slope * teacher_ms / model.teacher_ms
    return scale, teacher_ms - scale * full, ratio * teacher_ms - scale * chosen


def table_sum(store: RunStore, choice: Mapping[str, str]) -> float:
    """Return the sum of the table's rows of a choice (ms); blocks that it leaves out stay the teacher's."""
    return float(table_sums(store, [choice])[0])


def table_sums(store: RunStore, choices: Sequence[Mapping[str, str]]) -> Floats:
    """Return the sums of many choices (N,), reading the table once."""
    return sums_of(store, operation_ms(store), choices)


def sums_of(store: RunStore, rows: Mapping[str, float], choices: Sequence[Mapping[str, str]]) -> Floats:
    """Return the sums of many choices (N,), with ``rows`` (ms by key) in place of the table's."""
    listed = store.all(OperationRecord)
    blocks = list(dict.fromkeys(record.block for record in listed.values()))
    sums = [sum(_row(listed, rows, block, choice.get(block, "teacher")) for block in blocks) for choice in choices]
    return np.array(sums)


def costs(store: RunStore, graph: Graph, target: Target) -> tuple[tuple[str, ...], tuple[str, ...], Floats]:
    """Return (blocks, operations, ms): the table as a matrix (N, M), NaN where an operation does not fit."""
    listed, rows = store.all(OperationRecord), operation_ms(store)
    blocks = tuple(block.name for block in graph.replaceable)
    names = tuple(dict.fromkeys(record.operation for record in listed.values()))
    matrix = np.full((len(blocks), len(names)), np.nan)
    for i, block in enumerate(graph.replaceable):
        for j, name in enumerate(names):
            record = listed.get(f"{block.name}/{name}")
            row = rows.get(latency_key(block, name, target))
            if record is not None and record.fits and row is not None:
                matrix[i, j] = row
    return blocks, names, matrix


def fastest(store: RunStore) -> dict[str, str]:
    """Return the choice that the table says is fastest: each block's fastest operation."""
    rows = operation_ms(store)
    return least(store, lambda record: rows.get(record.latency_key))


def least(store: RunStore, cost: Callable[[OperationRecord], float | None]) -> dict[str, str]:
    """Return each block's operation of the least ``cost``, of those that fit and have one; equals go by name."""
    best: dict[str, tuple[float, str]] = {}
    for record in store.all(OperationRecord).values():
        value = cost(record) if record.fits else None
        if value is not None:
            found = (value, record.operation)
            best[record.block] = min(found, best.get(record.block, found))
    return {block: name for block, (_, name) in best.items()}


def limit_for(store: RunStore, budget_ms: float) -> float:
    """Return the limit on the table's raw sum (ms) at which the whole network is predicted to take ``budget_ms``."""
    model = _model(store)
    return (budget_ms - model.fixed_ms) / model.slope


def network_key(choice: Mapping[str, str]) -> str:
    """Return the key of a network's latency: the same for the same operations, ``teacher`` for none replaced."""
    replaced = {block: name for block, name in sorted(choice.items()) if name != "teacher"}
    return hashlib.sha256(json.dumps(replaced).encode()).hexdigest()[:16] if replaced else "teacher"


def measure_network(context: Context, choice: Mapping[str, str]) -> NetworkLatencyRecord:
    """Return the latency of the network with these operations, measured next to the teacher; measured only once.

    The candidates have random weights: latency does not depend on them. Where the device of the run's table is not
    here, a network that was not measured there is estimated (``timing.estimated``), and the estimate is not kept.

    Raises:
        CaptureError: the network cannot be lowered.
        UsageError: the run has no lookup table.
    """
    key = network_key(choice)
    known = context.store.get(NetworkLatencyRecord, key)
    if known is not None:
        return known
    if absence(context) is not None:
        return estimate_network(context, choice)
    record = measure_networks(context, [choice])[0]
    context.store.put(key, record)
    return record


def estimate_network(context: Context, choice: Mapping[str, str]) -> NetworkLatencyRecord:
    """Return what the table and the measured networks say of the network with these operations, as an estimate.

    Raises:
        UsageError: the run has no lookup table.
    """
    model = _model(context.store)
    teacher = context.store.get(NetworkLatencyRecord, "teacher")
    assert teacher is not None, "the model goes through it"
    ms = max(0.0, model.fixed_ms + model.slope * table_sum(context.store, choice))
    return NetworkLatencyRecord(
        selection=dict(choice),
        timing=Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms, estimated=True),
        teacher=teacher.timing,
        predicted_ms=ms,
        provenance=teacher.provenance,
    )


def check_measured(context: Context, what: str, choice: Mapping[str, str]) -> None:
    """Say so where the latency of the network with these operations is an estimate; ``what`` it is, for people.

    Raises:
        UnverifiedError: it was not measured on the device, which is not here; names the way to measure it.
    """
    reason = absence(context)
    if reason is None:
        return
    record = measure_network(context, choice)
    if record.timing.estimated:
        raise UnverifiedError(
            f"{what} is estimated at {record.timing.ms:.4g} ms and was not measured: {reason}; go on where "
            f"the device is, or measure it there with a kit: hant-opt profile {context.store.root} --kit kit.zip"
        )


def measure_networks(context: Context, choices: Sequence[Mapping[str, str]]) -> list[NetworkLatencyRecord]:
    """Measure whole networks next to the teacher and each other, without keeping them."""
    bench = Workbench(context)
    modules = [assembled(context, choice) for choice in choices]
    inputs = network_inputs(context)
    found = bench.lower(modules, [inputs] * len(modules))
    for runner in found:
        if isinstance(runner, str):
            raise CaptureError(f"the selected network cannot be lowered: {runner}")
    runners = [runner for runner in found if isinstance(runner, Runner)]
    whole, *timings = bench.time(runners, [inputs] * len(runners))
    model = context.store.get(LatencyModelRecord, "model")
    return [
        NetworkLatencyRecord(
            selection=dict(choice),
            timing=timing,
            teacher=whole,
            predicted_ms=predict(context.store, choice) if model is not None else None,
            provenance=here(context),
        )
        for choice, timing in zip(choices, timings, strict=True)
    ]


def refit(store: RunStore, choices: Iterable[Mapping[str, str]] = ()) -> LatencyModelRecord:
    """Fit the model on the teacher and on measured networks; keep and return it.

    These are the fastest one, those of the calibration, and those of ``choices``.

    Slope and offset are the least squares over the measured networks, pulled towards the line of slope 1 through the
    teacher where they are few or close to it. Other networks that the run has measured do not count, so that a run
    gives the same result whatever else it was used for, and wherever it was stopped.

    Raises:
        UsageError: the run has no measured teacher yet.
    """
    networks = store.all(NetworkLatencyRecord)
    teacher = networks.get("teacher")
    if teacher is None:
        raise UsageError("the run has no lookup table yet; run the profile stage first")
    calibration = store.get(CalibrationRecord, "calibration")
    given = () if calibration is None else calibration.networks
    keys = dict.fromkeys((network_key(fastest(store)), *given, *(network_key(choice) for choice in choices)))
    records = [networks[key] for key in keys if key in networks and key != "teacher"]
    full, *others = table_sums(store, [{}, *(record.selection for record in records)]).tolist()
    slope, offset, whole = 1.0, 0.0, teacher.timing.ms
    if records and full > 0:
        ratios = np.array([ratio_interval(record.timing, record.teacher).value for record in records])
        slope, offset = fit((full - np.array(others)) / whole, ratios)
    fixed = whole * (1 + offset) - slope * full
    model = LatencyModelRecord(fixed_ms=fixed, slope=slope, teacher_ms=whole, networks=len(records) + 1)
    store.put("model", model)
    return model


def fit(saved: Floats, ratios: Floats) -> tuple[float, float]:
    """Return (slope, offset): a network takes ``1 - slope * saved + offset`` of the teacher.

    ``saved`` (N,) is what the table says that networks save, as a share of the teacher; ``ratios`` (N,) are the
    measured networks over the teacher. The offset is what any exchange of blocks costs: in eager PyTorch networks of
    many kinds of blocks are slower than their blocks. Least squares with a pull to 1 and 0. What operations do to each
    other is not quite linear, so networks that are far faster than budgets usually ask for count less, down to nothing.
    """
    weight = np.minimum(ratios / _USUAL, 1.0)
    x = np.stack([saved, -np.ones_like(saved)], axis=1)
    slope, offset = ridge(x, 1 - ratios, (1.0, 0.0), _RIDGE, weight)
    return float(slope), float(offset)


def _model(store: RunStore) -> LatencyModelRecord:
    return store.get(LatencyModelRecord, "model") or refit(store)


def _row(listed: Mapping[str, OperationRecord], rows: Mapping[str, float], block: str, operation_name: str) -> float:
    record = listed.get(f"{block}/{operation_name}")
    if record is None or record.latency_key not in rows:
        raise UsageError(f"no latency of {operation_name} in block {block}; run the profile stage with it in the pool")
    return rows[record.latency_key]


def assembled(context: Context, choice: Mapping[str, str]) -> nn.Module:
    """Return the network with these operations (block -> operation), with random weights."""
    graph = context.teacher
    specs = {spec.name: spec for spec in context.pool}
    modules = {
        name: build_candidate(graph.block(name), specs.get(chosen) or operation(chosen), context.seed)
        for name, chosen in choice.items()
        if chosen != "teacher"
    }
    return graph.replace(modules).network
