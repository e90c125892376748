"""Put the lookup table right by a few whole networks.

Rows are measured between the teacher's own blocks. What a block costs that cannot be taken out, because it changes
shapes, is therefore not measured in place: alone it lacks what it does to the others. On ONNX Runtime the slices and
paddings of a CIFAR ResNet's two shortcuts keep all blocks behind them out of the blocked layout, and these two blocks
cost half as much again as their rows. One factor for all such blocks is fitted on random networks that are measured
next to the teacher, together with the slope and the offset that predictions have anyway (``latency_model``).
"""

from __future__ import annotations

import math
import random

import numpy as np

from ...backends.measuring.statistics import ratio_interval, ridge
from ...op_library.pools import operation
from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store
from ...transformer.errors import CaptureError
from ..candidates.candidates import latency_key
from ..candidates.records import OperationRecord
from .measure import measure_networks
from .predict import network_key
from .provenance import absence
from .records import CalibrationRecord, LatencyRecord, NetworkLatencyRecord
from .table import sums_of

NETWORKS = 10
"""Measured for the fit."""
_TOGETHER = 5
"""Measured interleaved, and durable together."""
_RIDGE = (0.02, 0.001, 1.0)
"""How strongly slope, factor and offset are pulled to 1, 0 and 0."""
_BOUNDS = (-0.5, 2.0)
"""A factor beyond these comes from noise."""
_TRIES = 40


def calibrate(context: Context) -> CalibrationRecord:
    """Measure the calibration networks that the run lacks, where the device is here, then fit; keep and return it."""
    store = context.store
    choices = calibration_networks(store)
    known = store.all(NetworkLatencyRecord)
    missing = [choice for choice in choices if network_key(choice) not in known]
    if missing and absence(context) is None:
        _measure(context, missing)
    found = store.all(NetworkLatencyRecord)
    keys = [key for key in map(network_key, choices) if key in found and not found[key].timing.estimated]
    calibration = CalibrationRecord(added=_added(context, [found[key] for key in keys]), networks=tuple(keys))
    store.put("calibration", calibration)
    return calibration


def calibration_networks(store: Store) -> list[dict[str, str]]:
    """Return random networks (block -> operation) of operations with no more MACs than the block's own.

    The same for the same operations, and known before anything is measured, so that a kit can hold them.
    """
    listed = sorted(store.all(OperationRecord).values(), key=lambda record: (record.block, record.operation))
    most = {record.block: record.macs for record in listed if record.operation == "teacher"}
    fitting: dict[str, list[str]] = {}
    for record in listed:
        if record.fits and record.operation != "teacher" and record.macs <= (most[record.block] or math.inf):
            fitting.setdefault(record.block, []).append(record.operation)
    chance = random.Random("calibration")
    found: dict[str, dict[str, str]] = {}
    for _ in range(_TRIES):
        share = chance.uniform(0.3, 1.0)
        choice = {block: chance.choice(names) for block, names in fitting.items() if chance.random() < share}
        if choice and len(found) < NETWORKS:
            found.setdefault(network_key(choice), choice)
    return list(found.values())


def _measure(context: Context, choices: list[dict[str, str]]) -> None:
    with context.progress.task("calibrate", len(choices)) as task:
        for start in range(0, len(choices), _TOGETHER):
            some = choices[start : start + _TOGETHER]
            try:
                measured = measure_networks(context, some)
            except CaptureError as error:
                context.progress.log(f"predictions are put right by {len(some)} networks less: {error}")
                continue
            with context.store.transaction():
                for record in measured:
                    context.store.put(network_key(record.selection), record)
            task.advance(len(some))


def _added(context: Context, networks: list[NetworkLatencyRecord]) -> dict[str, float]:
    """Return what own blocks that cannot be taken out cost beyond their rows (ms), by the rows' keys."""
    store, teacher = context.store, context.store.get(NetworkLatencyRecord, "teacher")
    rows = {key: row.timing.ms for key, row in store.all(LatencyRecord).items()}
    fixed = [block for block in context.teacher.replaceable if not block.identity_allowed]
    own = {block.name: latency_key(block, operation("teacher"), context.target) for block in fixed}
    if teacher is None or not networks or not own:
        return {}
    full, *sums = sums_of(store, rows, [{}, *(network.selection for network in networks)])
    replaced = [
        sum(rows[key] for block, key in own.items() if network.selection.get(block, "teacher") != "teacher")
        for network in networks
    ]
    x = np.stack([full - np.array(sums), np.array(replaced), np.full(len(sums), -teacher.timing.ms)], axis=1)
    x /= teacher.timing.ms
    y = 1 - np.array([ratio_interval(network.timing, network.teacher).value for network in networks])
    slope, share, _ = ridge(x, y, (1.0, 0.0, 0.0), _RIDGE)
    factor = float(np.clip(share / slope, *_BOUNDS)) if slope > 0 else 0.0
    return {key: factor * rows[key] for key in own.values()}
