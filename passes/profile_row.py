"""Measure rows of the lookup table at a site.

The teacher's own block is worth what the window loses when the block is taken out; where it cannot be taken out, its
own time less that of an empty network of the same input and output. Any other operation is worth that plus what the
window gains when the operation takes the block's place. All are taken round by round relative to the whole teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..transformer.contracts.backend import Runner
from ..transformer.contracts.candidate import build_candidate
from ..transformer.contracts.context import Context
from ..transformer.contracts.timing import Timing
from ..transformer.errors import CaptureError
from .profile_plan import Row, SitePlan
from .workbench import Workbench, combined

MOST_ROUNDS = 60
"""A row of the table need not be as certain as the promise: the whole network is measured again anyway."""


def measure_reference(bench: Workbench, context: Context, plan: SitePlan, teacher_ms: float) -> Timing:
    """Return the time of the site's own block in its place (ms), in units where the whole teacher takes its time.

    Raises:
        CaptureError: the block cannot be lowered.
    """
    site, size = plan.site, context.target.batch_size
    if site.block.identity_allowed:
        modules = [site.window(site.block.module), site.window(nn.Identity())]
        inputs, weights = [site.example(size)] * 2, [1.0, -1.0]
    else:
        modules = [site.block.module, nn.Identity(), nn.Identity()]
        specs = [site.block.input, site.block.input, site.block.output]
        inputs, weights = [spec.random(size) for spec in specs], [1.0, -0.5, -0.5]
    found = bench.lower(modules, [(tensor,) for tensor in inputs])
    runners = [runner for runner in found if isinstance(runner, Runner)]
    if len(runners) < len(found):
        reason = next(reason for reason in found if isinstance(reason, str))
        raise CaptureError(f"block {site.block.name} cannot be timed: {reason}")
    whole, *parts = bench.time(runners, [(tensor,) for tensor in inputs], MOST_ROUNDS)
    return combined(parts, _times(weights, site.block.calls), whole, teacher_ms)


def measure_operations(
    bench: Workbench, context: Context, plan: SitePlan, rows: Sequence[Row], own_ms: float, teacher_ms: float
) -> list[Timing | str]:
    """Return each row's time (ms), or why it cannot be lowered. ``own_ms`` is the row of the site's own block."""
    site, nothing = plan.site, plan.site.block.identity_allowed
    timed = [row for row in rows if not (nothing and row.operation == "identity")]
    example = site.example(context.target.batch_size)
    modules = [site.window(site.block.module), *(site.window(_module(context, row)) for row in timed)]
    found = bench.lower(modules, [(example,)] * len(modules))
    if isinstance(found[0], str):
        raise CaptureError(f"block {site.block.name} cannot be timed: {found[0]}")
    runners = [runner for runner in found if isinstance(runner, Runner)]
    whole, reference, *others = bench.time(runners, [(example,)] * len(runners), MOST_ROUNDS)
    timings = iter(others)
    results: dict[str, Timing | str] = {}
    for row, runner in zip(timed, found[1:], strict=True):
        if isinstance(runner, str):
            results[row.key] = runner
        else:
            change = combined([next(timings), reference], _times([1.0, -1.0], site.block.calls), whole, teacher_ms)
            results[row.key] = _shifted(change, own_ms)
    return [results.get(row.key, NOTHING) for row in rows]


NOTHING = Timing(ms=0.0, low=0.0, high=0.0, trimmed_mean=0.0)
"""The time of identity: the own block's time is defined as what the window loses without it."""


def _module(context: Context, row: Row) -> nn.Module:
    return row.block.module if row.spec is None else build_candidate(row.block, row.spec, context.seed)


def _times(weights: Sequence[float], calls: int) -> list[float]:
    return [weight * calls for weight in weights]


def _shifted(timing: Timing, by: float) -> Timing:
    """Return the timing with ``by`` ms added; never below zero."""
    return timing.model_copy(
        update={
            "ms": max(0.0, timing.ms + by),
            "low": max(0.0, timing.low + by),
            "high": max(0.0, timing.high + by),
            "trimmed_mean": max(0.0, timing.trimmed_mean + by),
            "samples": tuple(sample + by for sample in timing.samples),
        }
    )
