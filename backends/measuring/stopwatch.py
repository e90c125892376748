"""The stopwatch: what a call costs next to other calls, as timings. How it works is told in ``rounds.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...transformer.contracts.timing import Protocol, Timing
from .rounds import Call, Clock, Interruptions, interruptions, take_rounds
from .statistics import summarise

__all__ = ["Call", "Clock", "Interruptions", "interleave"]


def interleave(
    calls: Sequence[Call],
    protocol: Protocol,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    interrupted: Interruptions = interruptions,
) -> tuple[Timing, ...]:
    """Time ``calls`` against each other; sample i of every timing is of round i (ms per call).

    ``clock`` returns seconds, ``interrupted`` a count that rises when the processor is taken away. The order of the
    calls in a round is drawn from ``seed``.
    """
    rounds = take_rounds(calls, protocol, seed, clock, interrupted)
    return tuple(
        summarise(samples, converged, protocol.confidence, protocol.trim)
        for samples, converged in zip(rounds.samples, rounds.converged, strict=True)
    )
