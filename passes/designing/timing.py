"""Times of parts and of whole structures, each beside the teacher; estimates where the target is not here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from ...backends.measuring.statistics import ratio_interval, ridge
from ...op_library.families.superblock import named_conv_norm
from ...op_library.structure import Item, Structure
from ...op_library.tensor_spec import TensorSpec
from ...transformer.contracts.backend import Runner
from ...transformer.contracts.context import Context
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError
from ...transformer.tools.modes import evaluating
from ..latency.estimates import estimating_bench
from ..latency.predict import network_key
from ..latency.provenance import absence
from ..latency.records import LatencyRecord, NetworkLatencyRecord
from ..latency.workbench import Workbench, combined, network_inputs
from ..networks.resolution import Size, seen_at
from .costs import Row
from .inherit import fresh
from .space import Place, choice_of

_TOGETHER = 12
"""Parts that are timed interleaved."""
_NETWORKS = 4
"""Whole networks that are."""
_ROUNDS = 60
_PULL = (0.02, 0.05)
"""How strongly slope and offset of whole networks are pulled to 1 and 0."""


def bench_of(context: Context) -> Workbench:
    """Return where to measure, or what estimates.

    Raises:
        UsageError: the device is not here, and there is no cost model for it.
    """
    if absence(context) is None:
        return Workbench(context)
    return estimating_bench(context) or Workbench(context)  # the latter says what is missing


def teacher_ms(context: Context, bench: Workbench) -> float:
    """Return the teacher's latency (ms), timed once a run."""
    known = context.store.get(NetworkLatencyRecord, "teacher")
    if known is None:
        timing = bench.time([], [])[0]
        known = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=bench.provenance)
        context.store.put("teacher", known)
    return known.timing.ms


def time_rows(
    context: Context, bench: Workbench, place: Place, size: tuple[int, int], rows: Sequence[Row]
) -> Iterator[tuple[Row, Timing]]:
    """Yield rows of the lookup table with their times; those that the run has are not timed again."""
    stride = place.own.item.stride
    keys = {row: _key(context, row, size, stride) for row in rows}
    known = {row: context.store.get(LatencyRecord, key[0]) for row, key in keys.items()}
    yield from ((row, record.timing) for row, record in known.items() if record is not None)
    whole_ms = teacher_ms(context, bench)
    missing = [row for row, record in known.items() if record is None]
    for some in (missing[start : start + _TOGETHER] for start in range(0, len(missing), _TOGETHER)):
        inputs = [(TensorSpec((row.before, *size)).random(context.target.batch_size),) for row in some]
        found = bench.lower(_parts(place, some), inputs)
        runners = [opened(runner, row.type) for runner, row in zip(found, some, strict=True)]
        whole, *timings = bench.time(runners, inputs, _ROUNDS)
        for row, timing in zip(some, timings, strict=True):
            scaled = combined([timing], [1.0], whole, whole_ms)
            key, shown = keys[row]
            made = LatencyRecord(**shown, target=context.target.fingerprint, timing=scaled, provenance=bench.provenance)
            context.store.put(key, made)
            yield row, scaled


def time_structures(
    context: Context, bench: Workbench, structures: Sequence[Structure], size: Size | None = None
) -> None:
    """Measure whole networks of these structures beside the teacher; those that the run has are not measured again.

    Their images have the ``size``, the teacher's are its own. Weights are random: latency does not depend on them.
    """
    missing = [one for one in structures if context.store.get(NetworkLatencyRecord, key_of(one, size)) is None]
    inputs = network_inputs(seen_at(context, size))
    classes, channels = shape_of(context)
    for some in (missing[start : start + _NETWORKS] for start in range(0, len(missing), _NETWORKS)):
        networks = [fresh(one, classes, channels, context.seed) for one in some]
        found = bench.lower(networks, [inputs] * len(networks))
        runners = [opened(runner, str(one)) for runner, one in zip(found, some, strict=True)]
        whole, *timings = bench.time(runners, [inputs] * len(runners))
        with context.store.transaction():
            for one, timing in zip(some, timings, strict=True):
                record = NetworkLatencyRecord(
                    selection=choice_of(one, size), timing=timing, teacher=whole, provenance=bench.provenance
                )
                context.store.put(key_of(one, size), record)


def shape_of(context: Context) -> tuple[int, int]:
    """Return how many classes the teacher tells apart and how many channels its images have."""
    with torch.no_grad(), evaluating(context.model):
        return context.model(*context.example_inputs).shape[1], context.example_inputs[0].shape[1]


def ratio_of(record: NetworkLatencyRecord) -> float:
    """Return a measured network over the teacher that was timed beside it."""
    return ratio_interval(record.timing, record.teacher).value


def key_of(structure: Structure, size: Size | None = None) -> str:
    """Return the key of a whole network's latency, for images of this size."""
    return network_key(choice_of(structure, size))


def line_of(sums: Sequence[float], ratios: Sequence[float]) -> tuple[float, float]:
    """Return (slope, offset): a network takes ``slope * sum + offset``, both as shares of the teacher.

    Parts take more alone than in a row, and the whole has a head that no part has.
    """
    x = np.stack([np.array(sums), np.ones(len(sums))], axis=1)
    slope, offset = ridge(x, np.array(ratios), (1.0, 0.0), _PULL)
    return float(slope), float(offset)


def _parts(place: Place, rows: Sequence[Row]) -> list[nn.Module]:
    """Return what is timed; rows that begin with the same basic block share it, and so it is lowered once."""
    first: dict[tuple[str, int, int], nn.Module] = {}
    found = [_part(place, row) for row in rows]
    for row, part in zip(rows, found, strict=True):
        if isinstance(part, nn.Sequential) and place.own.item.superblock is not None:
            part[0] = first.setdefault((row.type, row.before, row.after), part[0])
    return found


def _part(place: Place, row: Row) -> nn.Module:
    """Return what is timed: a convolution, or a super-block of as many basic blocks."""
    item = place.own.item
    if item.superblock is None:
        stride = (item.stride, item.stride)
        return named_conv_norm(row.before, row.after, item.kernel, stride, activation="relu").eval()
    block = Item(f"{row.type}_d{row.depth}", row.after).superblock
    assert block is not None, "types are names of super-blocks"
    return block.blocks(row.before, row.after, (item.stride, item.stride), last=True).eval()


def opened(runner: Runner | str, what: str) -> Runner:
    """Return what was lowered.

    Raises:
        CaptureError: it could not be; ``what`` it is, for people.
    """
    if isinstance(runner, str):
        raise CaptureError(f"{what} cannot be lowered: {runner}")
    return runner


def _key(context: Context, row: Row, size: tuple[int, int], stride: int) -> tuple[str, dict[str, str]]:
    """Return the key of a row of the lookup table, and what it says of itself."""
    height, width = size
    name = row.type if row.type.startswith("conv_") else f"{row.type}_d{row.depth}"
    entry = f"{row.before}x{height}x{width}"
    leave = f"{row.after}x{-(-height // stride)}x{-(-width // stride)}"
    shown = {"operation": name, "input": entry, "output": leave}
    return f"{context.target.fingerprint}/{name}/{entry}->{leave}", shown
