"""Measure whole networks on the target, each interleaved with the teacher; estimate them where it is not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ...op_library.pools import operation
from ...transformer.contracts.backend import Runner
from ...transformer.contracts.context import Context
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError, UnverifiedError
from ..candidates.build import build_candidate
from .predict import _model, network_key, predict
from .provenance import absence, here
from .records import LatencyModelRecord, NetworkLatencyRecord
from .table import table_sum
from .workbench import Workbench, network_inputs


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
            f"the device is, or measure it there with a kit: hant-opt profile {context.store.address} --kit kit.zip"
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
