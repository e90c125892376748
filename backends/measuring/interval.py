"""Medians with their intervals. Needs Python and numpy only: a kit takes this file to the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value between the ends of its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Width of the interval as a share of the value."""
        return (self.high - self.low) / self.value if self.value > 0 else float("inf")


def median_interval(samples: Sequence[float] | Array, confidence: float = 0.99, seed: int = 0) -> Interval:
    """Return the median of ``samples`` with its bootstrap interval; the same samples give the same bits.

    The percentile bootstrap of a median covers too little where samples are few (4 % false alarms at the 99 % level
    with 10 to 20 of them), so the interval is widened to the exact one of order statistics, which supposes nothing
    about the distribution. Its level is half as far from certainty again, since a series that grows until its interval
    is narrow is looked at more than once.
    """
    values = np.sort(np.asarray(samples, dtype=np.float64))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(_resample(values, seed), axis=1), (tail, 1 - tail))
    cut = _cut(len(values), tail / 2)
    return Interval(float(np.median(values)), float(min(low, values[cut])), float(max(high, values[-1 - cut])))


def _resample(values: Array, seed: int) -> Array:
    index = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    return values[index]


def _cut(count: int, tail: float) -> int:
    """Return how many of ``count`` samples each end may lose: the median is outside in at most ``tail`` of cases.

    The number of samples below the median is binomial with probability one half.
    """
    below, cut = 0.0, 0
    while cut < (count - 1) // 2:
        below += math.comb(count, cut) / 2**count
        if below > tail:
            break
        cut += 1
    return max(0, cut - 1)
