"""Predict the latency of a whole network from the lookup table.

HANT appendix A.1: the table's sum leaves out input and output stems and differs from the real latency. Here
``fixed_ms + slope * sum`` is fitted through the teacher, which is measured, and further whole networks as they are
measured. The slope takes up what operations do to each other beyond their neighbours (caches, fusion).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np

from ...backends.measuring.statistics import ratio_interval, ridge
from ...transformer.contracts.store import Store
from ...transformer.errors import UsageError
from ..ranking.records import WinnerRecord
from .records import CalibrationRecord, LatencyModelRecord, NetworkLatencyRecord
from .table import Floats, fastest, table_sum, table_sums

_USUAL = 0.3
"""Ratio of the teacher's latency below which networks count less in the fit."""


_RIDGE = (0.05, 1.0)
"""How strongly slope and offset are pulled to 1 and 0: as one network that saves the root of the first share, and one
that saves nothing."""


def predict(store: Store, choice: Mapping[str, str]) -> float:
    """Return the predicted latency (ms) of the network with these operations (block -> operation)."""
    model = _model(store)
    if network_key(choice) == "teacher":
        return model.teacher_ms
    return model.fixed_ms + model.slope * table_sum(store, choice)


def surprise(store: Store, record: NetworkLatencyRecord) -> float:
    """Return a network's measured over its predicted latency, both relative to the teacher.

    Milliseconds themselves do not compare: the machine may have been busier than when the model was fitted, and the
    teacher that was timed beside the network as much slower.
    """
    model = _model(store)
    return record.timing.ms / record.teacher.ms * model.teacher_ms / predict(store, record.selection)


def predicted_ratio(store: Store) -> float:
    """Return predicted student over measured teacher, as known when the winner was chosen; 0 where it was not."""
    winner = store.get(WinnerRecord, "winner")
    if winner is None:
        return 0.0
    model = store.get(LatencyModelRecord, "model")
    return winner.predicted_ms / (winner.teacher_ms if model is None else model.teacher_ms)


def split_up(store: Store, choice: Mapping[str, str], teacher_ms: float, ratio: float) -> tuple[float, float, float]:
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


def limit_for(store: Store, budget_ms: float) -> float:
    """Return the limit on the table's raw sum (ms) at which the whole network is predicted to take ``budget_ms``."""
    model = _model(store)
    return (budget_ms - model.fixed_ms) / model.slope


def network_key(choice: Mapping[str, str]) -> str:
    """Return the key of a network's latency: the same for the same operations, ``teacher`` for none replaced."""
    replaced = {block: name for block, name in sorted(choice.items()) if name != "teacher"}
    return hashlib.sha256(json.dumps(replaced).encode()).hexdigest()[:16] if replaced else "teacher"


def calibrated(store: Store) -> dict[str, NetworkLatencyRecord]:
    """Return the networks that the calibration was fitted on and the run still knows, by key."""
    calibration, networks = store.get(CalibrationRecord, "calibration"), store.all(NetworkLatencyRecord)
    return {key: networks[key] for key in (() if calibration is None else calibration.networks) if key in networks}


def refit(store: Store, choices: Iterable[Mapping[str, str]] = ()) -> LatencyModelRecord:
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
    keys = dict.fromkeys(
        (network_key(fastest(store)), *calibrated(store), *(network_key(choice) for choice in choices))
    )
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


def _model(store: Store) -> LatencyModelRecord:
    return store.get(LatencyModelRecord, "model") or refit(store)
